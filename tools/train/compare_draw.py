# SPDX-License-Identifier: MIT
"""Does limn draw like diffusers? The same prompts and seeds by both on the same exported folder, limn in its exact mode.
Prints the largest difference of a sample and how many differ; exit status 1 where one is above 1 of 255.

    python compare_draw.py --limn build/limn --model models/mini-draw
"""
import argparse
import sys

import torch

from eval_draw import Artist, LimnArtist

PROMPTS = ("a dog", "a big pumpkin on black", "two cats", "a fish on a light blue background",
           "an apple on the left and a banana on the right")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limn", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(1)
    worst, seeds = 0, list(range(11, 11 + len(PROMPTS)))
    for guidance in (1.0, 1.25, 3.0):
        ours = LimnArtist(args.limn, args.model, args.steps, guidance, "--precision", "exact")
        pictures = [((a.draw(list(PROMPTS), seeds) + 1) * 127.5).round()
                    for a in (ours, Artist(args.model, args.steps, guidance))]
        apart = (pictures[0] - pictures[1]).abs()
        worst = max(worst, int(apart.max()))
        print("guidance %.2f: %d pictures, largest difference %d of 255, %.3f%% of samples differ" % (
            guidance, len(PROMPTS), apart.max(), 100 * (apart > 0).float().mean()), flush=True)
    sys.exit(worst > 1)


if __name__ == "__main__":
    main()
