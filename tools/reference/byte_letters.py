# SPDX-License-Identifier: MIT
"""The letters that byte-level BPE shows bytes as."""


def byte_letters():
    """GPT-2's printable letters for the 256 bytes, in their order."""
    keep = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    letters = []
    for b in range(256):
        letters.append(chr(b) if b in keep else chr(256 + b - sum(k < b for k in keep)))
    return letters
