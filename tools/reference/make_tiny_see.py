#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes tests/golden/tiny_see: a whole Qwen3-VL folder around the tiny weights of golden/qwen3vl,
and tests/golden/tiny_moe: the same around the tiny mixture of experts.

The tokenizer is byte-level BPE with 256 bytes, a few merges and Qwen's control tokens, so that all
of it fits the 512 rows of the tiny embedding. Its words mean nothing; tests of pipelines, tasks and
the command line need a model that loads and answers, not one that knows.
"""
import json
import os
from pathlib import Path

from byte_letters import byte_letters

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden"
OUT = GOLDEN / "tiny_see"
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
MERGES = ["t h", "th e", "Ġ the", "a n", "an d", "Ġ and", "i n", "e r", "Ġ a", "Ġ i", "o n", "r e", "s e", "u s",
          "us er", "s t", "a s", "i s", "as s", "ass is", "t an", "assis tan", "assistan t", "Ġ o", "Ġo f",
          '" :', '" ,', "t e", "x t", "te x", "te xt", "o x", "b ox", "1 0", "0 0"]
CONTROL = {490: "<|endoftext|>", 491: "<|im_start|>", 492: "<|im_end|>", 500: "<|image_pad|>", 501: "<|video_pad|>",
           502: "<|vision_start|>", 503: "<|vision_end|>"}
PLAIN = {493: "<tool_call>", 494: "</tool_call>", 495: "<tool_response>", 496: "</tool_response>", 497: "<think>",
         498: "</think>"}


def tokenizer():
    vocab = {c: i for i, c in enumerate(byte_letters())}
    merges = []
    for m in MERGES:
        left, right = m.split(" ")
        if left not in vocab or right not in vocab:
            raise SystemExit(f"merge {m}: a part is unknown")
        merges.append(m)
        vocab.setdefault(left + right, len(vocab))
    added = [{"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
              "special": i in CONTROL} for i, t in sorted({**CONTROL, **PLAIN}.items())]
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
            "normalizer": {"type": "NFC"},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]},
            "post_processor": None,
            "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                      "vocab": vocab, "merges": merges}}


def main():
    OUT.mkdir(exist_ok=True)
    config = json.loads((GOLDEN / "qwen3vl" / "vl.json").read_text())
    files = {
        "config.json": config,
        "tokenizer.json": tokenizer(),
        "tokenizer_config.json": {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
        "generation_config.json": {"eos_token_id": [492, 490], "do_sample": False},
        "preprocessor_config.json": {"size": {"shortest_edge": 4096, "longest_edge": 65536}, "patch_size": 16,
                                     "merge_size": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3},
    }
    for name, tree in files.items():
        (OUT / name).write_text(json.dumps(tree, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    moe = GOLDEN / "tiny_moe"
    moe.mkdir(exist_ok=True)
    links = {OUT / "model.safetensors": "../qwen3vl/vl.safetensors", moe / "model.safetensors": "../qwen3vl/moe.safetensors",
             moe / "config.json": "../qwen3vl/moe.json"}
    links.update({moe / name: "../tiny_see/" + name for name in files if name != "config.json"})
    for link, target in links.items():
        if not link.is_symlink():
            os.symlink(target, link)


main()
