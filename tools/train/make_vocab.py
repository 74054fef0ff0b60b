# SPDX-License-Identifier: MIT
"""Make mini-draw's CLIP-style BPE vocabulary: OUT/vocab.json, merges.txt and the tokenizer's configs.

The merges are learnt from the captions of the painter (heavy weight, so that almost every caption word is
one token) and from the English emoji labels and tags (light weight, so that other words split sensibly).
Same layout as CLIP: 256 byte characters, the same with "</w>", one entry per merge, <|startoftext|>,
<|endoftext|>; padding is <|endoftext|>.

    python make_vocab.py --data DATA --sprites SPRITES --out OUT
"""
import argparse
import collections
import json
import re
from pathlib import Path

import numpy as np

from art import Painter, load_concepts

WORD = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|[^\s\w]+|_")


def byte_characters():
    """The GPT-2 / CLIP table: printable bytes stand for themselves, the others for 256 + n."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {b: chr(b) for b in plain}
    extra = 0
    for b in range(256):
        if b not in table:
            table[b] = chr(256 + extra)
            extra += 1
    return [table[b] for b in plain] + [table[b] for b in range(256) if b not in plain], table


def learn(words, count):
    """Plain BPE: words maps a tuple of symbols to its weight."""
    merges = []
    while len(merges) < count:
        pairs = collections.Counter()
        for symbols, weight in words.items():
            for pair in zip(symbols, symbols[1:]):
                pairs[pair] += weight
        if not pairs:
            break
        best = max(pairs, key=lambda p: (pairs[p], p))
        merges.append(best)
        merged = {}
        for symbols, weight in words.items():
            out, i = [], 0
            while i < len(symbols):
                if symbols[i:i + 2] == best:
                    out.append(symbols[i] + symbols[i + 1])
                    i += 2
                else:
                    out.append(symbols[i])
                    i += 1
            merged[tuple(out)] = weight
        words = merged
    return merges


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sprites", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--merges", type=int, default=2000)
    parser.add_argument("--length", type=int, default=40)
    args = parser.parse_args()
    concepts = load_concepts((1, 2, 3))
    counts = collections.Counter()
    for concept in concepts:
        for text in concept.synonyms + [concept.plural]:
            counts.update({w: 2000 for w in WORD.findall(text.lower())})
    painter = Painter(args.sprites, concepts)
    rng = np.random.default_rng(3)
    for _ in range(4000):
        kind = ("single", "two", "three", "beside", "above")[int(rng.integers(5))]
        style = painter.styles[int(rng.integers(3))]
        colour = ("white", "grey", "light blue", "purple", "red", "green", "black", "blue")[int(rng.integers(8))]
        things = [int(t) for t in rng.integers(len(concepts), size=2)]
        text = painter.caption(rng, kind, things, "normal", style, colour)
        counts.update({w: 20 for w in WORD.findall(text.lower())})
    for row in json.loads((args.data / "npm/emojibase-data/en/data.json").read_text()):
        for text in [row["label"], *row.get("tags", [])]:
            counts.update(WORD.findall(text.lower()))
    alphabet, table = byte_characters()
    words = collections.Counter()
    for word, weight in counts.items():
        symbols = [table[b] for b in word.encode()]
        symbols[-1] += "</w>"
        words[tuple(symbols)] += weight
    merges = learn(dict(words), args.merges)
    entries = alphabet + [a + "</w>" for a in alphabet] + [a + b for a, b in merges]
    entries = list(dict.fromkeys(entries)) + ["<|startoftext|>", "<|endoftext|>"]
    args.out.mkdir(parents=True, exist_ok=True)
    vocab = {entry: i for i, entry in enumerate(entries)}
    (args.out / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False) + "\n", encoding="utf-8")
    (args.out / "merges.txt").write_text("#version: 0.2\n" + "".join("%s %s\n" % m for m in merges), encoding="utf-8")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>",
               "pad_token": "<|endoftext|>"}
    (args.out / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")
    (args.out / "tokenizer_config.json").write_text(json.dumps(
        {**special, "add_prefix_space": False, "do_lower_case": True, "errors": "replace",
         "model_max_length": args.length, "tokenizer_class": "CLIPTokenizer"}, indent=2) + "\n")
    print(len(entries), "entries")


if __name__ == "__main__":
    main()
