# SPDX-License-Identifier: MIT
"""Learn mini-see's byte-level BPE: Qwen's normaliser, splitting and special tokens over 4,096 tokens.

    python see_tokenizer.py --sprites D/sprites --data D --out T/see/tokenizer

The text it learns from is what the generators ask and answer, plus the tags of emojibase for ordinary words.
"""
import argparse
import json
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

import see_clip
import see_scene
import see_text

VOCABULARY = 4096
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
           "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
           "<|image_pad|>", "<|video_pad|>")
KEPT = ("<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>",
        "<|file_sep|>", "<tool_response>", "</tool_response>", "<think>", "</think>")
# Every conversation of Qwen3-VL: an optional system text, then turns; pictures and videos stand where they were put.
TEMPLATE = """{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.content is string %}
{{- message.content }}
{%- else %}
{%- for part in message.content %}
{%- if part.type == 'image' or 'image' in part or 'image_url' in part %}
{{- '<|vision_start|><|image_pad|><|vision_end|>' }}
{%- elif part.type == 'video' or 'video' in part %}
{{- '<|vision_start|><|video_pad|><|vision_end|>' }}
{%- elif 'text' in part %}
{{- part.text }}
{%- endif %}
{%- endfor %}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}"""


def corpus(args):
    rng = np.random.default_rng(args.seed)
    gallery = see_scene.Gallery(args.sprites, tiers=(1, 2, 3))
    for concept in gallery.concepts:
        yield ". ".join(list(concept.synonyms) * 3 + [concept.plural] * 2 + [see_scene.sentence(see_scene.an(concept.name))])
        yield " ".join(" " + n for n in list(concept.synonyms) * 3 + [concept.plural])
    for _ in range(args.samples):
        picture = gallery.picture(rng, .3)
        for pairs in see_scene.questions(rng, gallery, picture).values():
            for question, answer in pairs:
                yield question
                yield answer
    for _ in range(args.samples // 8):
        _, _, pairs, _ = see_clip.clip_sample(rng, gallery)
        _, _, rows = see_text.table_sample(rng)
        for group in list(pairs.values()) + list(see_text.table_questions(rng, rows).values()):
            for question, answer in group:
                yield question
                yield answer
    for group in (see_text.READ_ASKED, see_text.SPOT_ASKED, see_scene.UNKNOWN):
        for question in group:
            yield " ".join([question] * 20)
    labels = json.loads(next(Path(args.data, "npm").glob("emojibase-data/en/data.json")).read_text(encoding="utf-8"))
    for entry in labels:
        yield entry["label"] + " " + " ".join(entry.get("tags", ()))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sprites", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=77)
    args = parser.parse_args()
    tokenizer = Tokenizer(models.BPE(fuse_unk=False, byte_fallback=False))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL) - len(KEPT), min_frequency=2, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(corpus(args), trainer)
    if tokenizer.get_vocab_size() != VOCABULARY - len(SPECIAL) - len(KEPT):
        raise SystemExit("see_tokenizer: the corpus is too small, only %d tokens" % tokenizer.get_vocab_size())
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in KEPT])
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(args.out / "tokenizer.json"))
    added = {str(tokenizer.token_to_id(t)): {"content": t, "lstrip": False, "normalized": False, "rstrip": False,
                                             "single_word": False, "special": t in SPECIAL} for t in SPECIAL + KEPT}
    config = {"add_bos_token": False, "add_prefix_space": False, "added_tokens_decoder": added, "bos_token": None,
              "chat_template": TEMPLATE, "clean_up_tokenization_spaces": False, "eos_token": "<|im_end|>", "errors": "replace",
              "model_max_length": 4096, "pad_token": "<|endoftext|>", "split_special_tokens": False,
              "tokenizer_class": "Qwen2Tokenizer", "unk_token": None}
    (args.out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    model = json.loads((args.out / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    (args.out / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False), encoding="utf-8")
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    (args.out / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    print("%d tokens, %d merges" % (tokenizer.get_vocab_size(), len(merges)))


if __name__ == "__main__":
    main()
