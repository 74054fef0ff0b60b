#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares limn with transformers on a Qwen3-VL folder: compare_see.py LIMN MODEL PICTURE... [--tokens 64]

Asks the same questions about the pictures, greedily and in f32, and prints where the token ids differ first.
Exits 1 when they differ. Not part of the tests: it needs torch, transformers and a trained model.
"""
import argparse
import json
import subprocess
import sys

import torch
from PIL import Image
from transformers import AutoTokenizer, Qwen3VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

QUESTIONS = ("What is this?", "Describe this image.", "Detect all objects.", "Read all the text in the image.")


def reference(model, tokenizer, processor, pictures, question, tokens):
    seen = processor(images=[Image.open(p).convert("RGB") for p in pictures], return_tensors="pt")
    merge = processor.merge_size ** 2
    content = [{"type": "image"} for _ in pictures] + [{"type": "text", "text": question}]
    text = tokenizer.apply_chat_template([{"role": "user", "content": content}], tokenize=False,
                                         add_generation_prompt=True)
    for grid in seen["image_grid_thw"]:
        text = text.replace("<|image_pad|>", "<|mark|>" * (int(grid.prod()) // merge), 1)
    ids = tokenizer(text.replace("<|mark|>", "<|image_pad|>"), return_tensors="pt")
    kinds = (ids["input_ids"] == model.config.image_token_id).int()
    with torch.no_grad():
        out = model.generate(**ids, **seen, mm_token_type_ids=kinds, max_new_tokens=tokens, do_sample=False)
    return out[0, ids["input_ids"].shape[1]:].tolist(), ids["input_ids"].shape[1]


def ours(limn, folder, pictures, question, tokens):
    run = subprocess.run([limn, "see", "-m", folder, *pictures, "-p", question, "-n", str(tokens), "--temperature", "0",
                          "--precision", "exact", "--cache-type", "f32", "--logprobs", "0", "--json", "--quiet"],
                         capture_output=True, text=True, check=True)
    answer = json.loads(run.stdout)
    return [t["id"] for t in answer["logprobs"]], answer["usage"]["prompt_tokens"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("limn")
    parser.add_argument("model")
    parser.add_argument("pictures", nargs="+")
    parser.add_argument("--tokens", type=int, default=64)
    args = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    processor = Qwen2VLImageProcessorPil.from_pretrained(args.model)
    model = Qwen3VLForConditionalGeneration.from_pretrained(args.model, dtype=torch.float32).eval()
    bad = 0
    groups = [[p] for p in args.pictures] + ([args.pictures] if len(args.pictures) > 1 else [])
    for pictures in groups:
        for question in QUESTIONS:
            want, n_want = reference(model, tokenizer, processor, pictures, question, args.tokens)
            got, n_got = ours(args.limn, args.model, pictures, question, args.tokens)
            stop = {model.generation_config.eos_token_id} if isinstance(model.generation_config.eos_token_id, int) \
                else set(model.generation_config.eos_token_id or [])
            want = [t for t in want if t not in stop]
            same = want == got and n_want == n_got
            bad += not same
            first = next((i for i, (a, b) in enumerate(zip(want, got)) if a != b), min(len(want), len(got)))
            print(f"{'same' if same else 'DIFFERENT'}: {len(pictures)} picture(s), {question!r}: prompt {n_got} of "
                  f"{n_want} tokens, answer {len(got)} of {len(want)}" + ("" if same else f", first at {first}"), flush=True)
    return bad != 0


sys.exit(main())
