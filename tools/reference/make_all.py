# SPDX-License-Identifier: MIT
"""Make every fixture: python tools/reference/make_all.py OUTDIR [group ...]"""
import importlib
import sys

GROUPS = ["clip", "unet", "vae", "rng", "sched", "samplers", "lora", "pipe", "bad", "dtype", "layout", "text"]


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    wanted = sys.argv[2:] or GROUPS
    unknown = set(wanted) - set(GROUPS)
    if unknown:
        sys.exit(f"unknown group: {', '.join(sorted(unknown))}; known: {', '.join(GROUPS)}")
    for group in wanted:
        print("==", group, flush=True)
        importlib.import_module("make_" + group).main(sys.argv[1])


if __name__ == "__main__":
    main()
