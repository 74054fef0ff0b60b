#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes data/clip_merges.bin from bpe_simple_vocab_16e6.txt.gz (open_clip, MIT).

  make_clip_merges.py bpe_simple_vocab_16e6.txt.gz data/clip_merges.bin

The CLIP vocabulary follows from its merges: ids 0..255 are the bytes in GPT-2's order, 256..511 the
same with "</w>", 512 + i is the i-th merge, then come <|startoftext|> and <|endoftext|>. A merge is
stored as the two ids it joins, 16 bits each, little endian. With --check the file is compared.
"""
import gzip
import struct
import sys

MERGES = 49152 - 256 - 2


def byte_order():
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return plain + [b for b in range(256) if b not in plain]


def alphabet():
    order, spare = byte_order(), 256
    plain = set(order[:188])
    chars = []
    for b in order:
        chars.append(chr(b) if b in plain else chr(spare))
        spare += b not in plain
    return chars


def main():
    check = "--check" in sys.argv
    source, target = [a for a in sys.argv[1:] if not a.startswith("--")]
    lines = gzip.open(source, "rt", encoding="utf-8").read().split("\n")[1:MERGES + 1]
    chars = alphabet()
    ids = {c: i for i, c in enumerate(chars)}
    ids.update({c + "</w>": 256 + i for i, c in enumerate(chars)})
    out = bytearray()
    for i, line in enumerate(lines):
        left, right = line.split()
        out += struct.pack("<HH", ids[left], ids[right])
        ids[left + right] = 512 + i
    assert len(lines) == MERGES and len(ids) == 512 + MERGES
    if check:
        same = open(target, "rb").read() == out
        print("ok" if same else "FAIL", target)
        sys.exit(not same)
    open(target, "wb").write(out)
    print(f"{target}: {len(out)} bytes, {len(lines)} merges")


if __name__ == "__main__":
    main()
