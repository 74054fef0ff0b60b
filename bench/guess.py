#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What guessed tokens (--draft-tokens) save on a document task: the same answer with and without.

usage: guess.py LIMN MODEL [ROWS] [THREADS] [ROUNDS]

The answer is a table in JSON, one object a row with the same keys and other values. A grammar that allows just
this text makes a model of random weights write it; which tokens are guessed right depends on the text only, and
what a token costs on the model. Prints tokens per second with and without, in turn, and what was guessed.
"""
import json
import re
import subprocess
import sys


def table(rows):
    out = []
    for i in range(rows):
        x, y = (i * 37 + 11) % 800, (i * 53 + 29) % 900
        out.append({"bbox_2d": [x, y, x + 90 + i % 7, y + 40 + i % 5], "label": ["price", "name", "total"][i % 3],
                    "text": f"{(i * 7919) % 10000 / 100:.2f}"})
    return json.dumps(out)


def ask(limn, model, grammar, threads, draft, cap):
    r = subprocess.run([limn, "see", "-m", model, "--grammar", "@" + grammar, "--temperature", "0", "--json",
                        "--verbose", "-t", str(threads), "--draft-tokens", str(draft), "-n", str(cap), "--context",
                        "4096", "Read the table."], capture_output=True, text=True)
    if r.returncode != 0:
        sys.exit(r.stderr)
    answer = json.loads(r.stdout)
    guesses = re.search(r"(\d+) of (\d+) guesses right", r.stderr)
    written = answer["usage"]["completion_tokens"]
    return answer["text"], written, (written - 1) / answer["seconds"]["write"], guesses and guesses.group(0)


def main(limn, model, rows=20, threads=2, rounds=3):
    want, path = table(int(rows)), "/tmp/limn-guess.gbnf"
    with open(path, "w", encoding="utf-8") as f:
        f.write("root ::= " + json.dumps(want) + "\n")
    best = {0: 0.0, 3: 0.0}
    for _ in range(int(rounds)):
        for draft in best:
            text, written, rate, guesses = ask(limn, model, path, threads, draft, 4000)
            if text != want:
                sys.exit(f"another answer with --draft-tokens {draft}: {text[:200]}")
            best[draft] = max(best[draft], rate)
            print(f"--draft-tokens {draft}: {written} tokens, {rate:.2f} a second" + (f", {guesses}" if guesses else ""))
    print(f"best: {best[0]:.2f} without, {best[3]:.2f} with guesses: {best[3] / best[0]:.2f} times")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
