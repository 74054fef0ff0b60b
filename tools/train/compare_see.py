# SPDX-License-Identifier: MIT
"""Does limn answer like transformers? Greedy answers of both on the same exported folder, picture files and questions.

    PYTHONPATH=tools/train python tools/train/compare_see.py --limn build/limn --model models/mini-see picture.png ...

Each picture is asked every question; the longest answers are 64 tokens. Ends with a count; exit status 1 on a difference.
"""
import argparse
import subprocess
import sys

from PIL import Image

from eval_see import Model

QUESTIONS = ("What is this?", "Describe the picture.", "What colour is the background?", "How many things are there?",
             "Detect all objects.", "Read all the text in the image.",
             "Moderate this image. Categories: weapon, alcohol, tobacco, gambling, medical, none.")
LONGEST = 64


def limn_says(limn, model, picture, question):
    done = subprocess.run([limn, "see", picture, question, "--model", model, "--temperature", "0", "--max-tokens", str(LONGEST)],
                          capture_output=True, text=True, check=True)
    return done.stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limn", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("pictures", nargs="+")
    args = parser.parse_args()
    model = Model(args.model)
    same = asked = tokens = 0
    for picture in args.pictures:
        for question in QUESTIONS:
            theirs = model.answer(Image.open(picture).convert("RGB"), question, most=LONGEST)
            ours = limn_says(args.limn, args.model, picture, question)
            asked += 1
            tokens += len(model.processor.tokenizer(theirs).input_ids)
            if ours.strip() == theirs.strip():
                same += 1
            else:
                print("%s, %s\n  limn          %r\n  transformers  %r" % (picture, question, ours.strip(), theirs.strip()))
    print("%d of %d answers equal, %d tokens" % (same, asked, tokens))
    sys.exit(same != asked)


if __name__ == "__main__":
    main()
