# SPDX-License-Identifier: MIT
"""Make every fixture: python tools/reference/make_all.py OUTDIR [group ...]

Each group is a process of its own: some of them patch the libraries (float64 schedulers).
`text` runs only when named, since it needs real vocabularies (see make_text.py).
"""
import os
import subprocess
import sys

GROUPS = ["clip", "unet", "vae", "rng", "sched", "samplers", "lora", "pipe", "tiling", "bad", "dtype", "layout",
          "image", "qwen3vl", "media"]
ON_DEMAND = ["text", "chat", "talks"]


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    wanted = sys.argv[2:] or GROUPS
    known = GROUPS + ON_DEMAND
    unknown = set(wanted) - set(known)
    if unknown:
        sys.exit(f"unknown group: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    env = dict(os.environ, PYTHONPATH=os.path.dirname(os.path.abspath(__file__)))
    for group in wanted:
        print("==", group, flush=True)
        code = f"import make_{group}, sys; make_{group}.main(sys.argv[1])"
        subprocess.run([sys.executable, "-c", code, sys.argv[1]], check=True, env=env)


if __name__ == "__main__":
    main()
