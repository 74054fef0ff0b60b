# SPDX-License-Identifier: MIT
"""Does limn answer like transformers? Greedy token ids of both on the same exported folder, picture files and questions.

    PYTHONPATH=tools/train python tools/train/compare_see.py --limn build/limn --model models/mini-see picture.png ...

Each picture is asked every question twice: as usual, and with the end of the turn forbidden, so that exactly 64 tokens
are written. limn keeps its keys and values in f32 for this: in f16, the default, logits move by some thousandths.
Without pictures, scenes and a page of text are painted from --sprites. Ends with a count; exit status 1 on
a difference, unless the two best tokens stood within 1e-3 of each other there (a tie that the order of additions decides).
"""
import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from eval_see import Model
from see_shards import Maker

QUESTIONS = ("What is this?", "Describe the picture.", "What colour is the background?", "How many things are there?",
             "Detect all objects.", "Read all the text in the image.",
             "Moderate this image. Categories: weapon, alcohol, tobacco, gambling, medical, none.")
LONGEST = 64
TIE = 1e-3
SEED = 434343          # below 10 ** 6, where the seeds of training begin


def limn_writes(limn, model, picture, question, forbidden):
    bias = [part for token in forbidden for part in ("--logit-bias", "%d:-100" % token)]
    done = subprocess.run([limn, "see", picture, question, "--model", model, "--temperature", "0", "--precision", "exact", "--cache-type", "f32",
                           "--max-tokens", str(LONGEST), "--json", "--logprobs", "1", "--quiet"] + bias, capture_output=True, text=True, check=True)
    return [t["id"] for t in json.loads(done.stdout)["logprobs"]]


def painted(sprites, model, folder):
    """Five scenes, one of them of another shape, and two pictures of text."""
    maker = Maker(sprites, model, SEED)
    stage = (0, {}, .2, 0.0, (1,), ("3d", "flat", "noto"), 0, 0)
    paths = []
    for i, kind in enumerate(("scene",) * 5 + ("line",) * 2):
        paths.append(str(Path(folder) / ("%d.png" % i)))
        Image.fromarray(maker.sample(stage, 1, kind)["frames"][0]).save(paths[-1])
    return paths


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limn", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--sprites")
    parser.add_argument("pictures", nargs="*")
    args = parser.parse_args()
    model = Model(args.model)
    ends = model.net.generation_config.eos_token_id
    same = asked = tokens = full = ties = 0
    with tempfile.TemporaryDirectory() as folder:
        for picture in args.pictures or painted(args.sprites, args.model, folder):
            for question in QUESTIONS:
                for forbidden in ((), ends):
                    theirs, lead = model.writes(Image.open(picture).convert("RGB"), question, most=LONGEST, forbidden=forbidden)
                    theirs = theirs[:-1] if theirs[-1] in ends else theirs
                    ours = limn_writes(args.limn, args.model, picture, question, forbidden)
                    asked += 1
                    tokens += len(theirs)
                    full += len(theirs) == LONGEST
                    if ours == theirs:
                        same += 1
                    else:
                        at = [a == b for a, b in zip(ours + [-1], theirs + [-2])].index(False)
                        ties += lead[at] < TIE
                        print("%s, %s: differ from token %d on, where transformers' choice led by %.1e\n  limn          %s\n"
                              "  transformers  %s" % (picture, question, at, lead[at], ours, theirs))
    print("greedy token ids: %d of %d answers equal, %d tokens, %d answers of %d tokens; %d differ after a tie" % (
        same, asked, tokens, full, LONGEST, ties))
    sys.exit(same + ties != asked)


if __name__ == "__main__":
    main()
