# SPDX-License-Identifier: MIT
"""The circle: limn draws each thing of mini-draw's world once ("a NAME"), then looks at its own picture and says what
it is. Both sides are limn's own program. Prints what was said wrong and the share that was named right.

    python circle.py --limn build/limn --draw models/mini-draw --see models/mini-see
"""
import argparse
import re
import subprocess
import tempfile
from pathlib import Path

from art import article, load_concepts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limn", required=True)
    parser.add_argument("--draw", required=True)
    parser.add_argument("--see", required=True)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--count", type=int, help="the first so many things only")
    args = parser.parse_args()
    concepts, right = load_concepts((1,))[:args.count], 0
    with tempfile.TemporaryDirectory() as folder:
        for concept in concepts:
            file = str(Path(folder) / (concept.code + ".png"))
            subprocess.run([args.limn, "draw", "--quiet", "-m", args.draw, "-r", str(args.seed), "-o", file,
                            article(concept.name)], check=True, stdout=subprocess.DEVNULL)
            said = subprocess.run([args.limn, "see", "--quiet", "-m", args.see, file, "What is this?"], check=True,
                                  stdout=subprocess.PIPE, text=True).stdout.strip()
            if re.search(r"\b(%s)\b" % "|".join(concept.synonyms), said.lower()):
                right += 1
            else:
                print("%s: %s" % (concept.name, said))
    print("circle: %d of %d named right" % (right, len(concepts)))


if __name__ == "__main__":
    main()
