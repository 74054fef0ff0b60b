# SPDX-License-Identifier: MIT
"""Fixtures of tests/golden/text: what reference tokenizers answer for 20,480 generated lines.

Lines are made of fragments.json by a generator that test_tokenizer.c repeats, so only one 32-bit
hash of the ids per line is stored. Needs tokenizers, transformers, sentencepiece; the environment
names where the vocabularies are:

  CLIP_DIR    vocab.json, merges.txt of a CLIP tokenizer
  QWEN_JSON   tokenizer.json of Qwen3

The tiny tokenizers are trained here; training is repeatable for one version of the libraries, so
an existing tiny file is kept unless RETRAIN is set.
"""
import json
import os
import struct

LINES = 20480
MASK = (1 << 64) - 1
RANGES = [(0x20, 0x7E), (0xA0, 0x24F), (0x370, 0x3FF), (0x400, 0x4FF), (0x590, 0x5FF), (0x600, 0x6FF),
          (0x900, 0x97F), (0xE00, 0xE7F), (0x1E00, 0x1EFF), (0x2000, 0x206F), (0x2190, 0x21FF),
          (0x3040, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xFF00, 0xFFEF), (0x1F300, 0x1FAFF),
          (0x300, 0x36F), (0x0, 0x2FFF), (0x10000, 0x1FFFF)]
QWEN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+")


class Random:
    """splitmix64"""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
        z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
        return (z ^ z >> 31) % n


def make_line(fragments, index):
    r = Random(index * 1000003 + 7)
    out = ""
    for i in range(1 + r.below(10)):
        if i and r.below(3) == 0:
            out += " "
        kind = r.below(16)
        if kind < 11:
            out += fragments[r.below(len(fragments))]
        elif kind == 11:
            for _ in range(1 + r.below(12)):
                out += chr(ord("a") + r.below(26))
        elif kind == 12:
            lo, hi = RANGES[r.below(len(RANGES))]
            for _ in range(1 + r.below(6)):
                out += chr(lo + r.below(hi - lo + 1))
        elif kind == 13:
            text = fragments[r.below(len(fragments))]
            out += text * (2 + r.below(40))
        elif kind == 14:
            for _ in range(1 + r.below(20)):
                out += " \t\n\r\u00a0\u3000"[r.below(6)]
        else:
            for _ in range(1 + r.below(15)):
                out += chr(ord("0") + r.below(10))
    return out


def hash_ids(ids):
    h = 0xCBF29CE484222325
    for i in ids:
        for b in struct.pack("<I", i):
            h = (h ^ b) * 0x100000001B3 & MASK
    return (h ^ h >> 32) & 0xFFFFFFFF


def write_hashes(path, encode, lines):
    with open(path, "wb") as f:
        for line in lines:
            f.write(struct.pack("<I", hash_ids(encode(line))))
    print(path)


def corpus(fragments):
    """Training text of the tiny tokenizers: the fragments and generated lines of other seeds."""
    words = [f for f in fragments for _ in range(3)]
    return words + [make_line(fragments, 1000000 + i) for i in range(4000)]


def save_compact(tokenizer, path):
    j = json.loads(tokenizer.to_str())
    if j["model"]["type"] == "Unigram":
        # The library's own reader is off by one bit for long decimals; six digits are read exactly.
        j["model"]["vocab"] = [[w, round(s, 6)] for w, s in j["model"]["vocab"]]
    with open(path, "w", encoding="utf-8") as f:
        json.dump(j, f, ensure_ascii=True, separators=(",", ":"))
        f.write("\n")


def train_bpe(fragments, path):
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(corpus(fragments), trainers.BpeTrainer(
        vocab_size=3000, max_token_length=20, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    t.add_special_tokens([AddedToken(x, normalized=False, special=True) for x in (
        "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
        "<|video_pad|>")])
    t.add_tokens([AddedToken(x, normalized=False) for x in (
        "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")])
    save_compact(t, path)


def train_llama(fragments, path):
    """As Llama 2 and Mistral files: prepended space, characters, byte fallback, merged unknowns."""
    from tokenizers import Tokenizer, decoders, models, normalizers, processors, trainers
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    t.train_from_iterator(corpus(fragments)[:1200], trainers.BpeTrainer(
        vocab_size=1500, special_tokens=special, limit_alphabet=600, max_token_length=16, show_progress=False))
    t.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
                                   decoders.Strip(" ", 1, 0)])
    t.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B",
                                                     special_tokens=[("<s>", t.token_to_id("<s>"))])
    j = json.loads(t.to_str())
    j["added_tokens"] = [a for a in j["added_tokens"] if not a["content"].startswith("<0x")]
    save_compact(Tokenizer.from_str(json.dumps(j)), path)


def train_unigram(fragments, path):
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    t = Tokenizer(models.Unigram())
    t.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Strip()])
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    t.decoder = decoders.Metaspace()
    t.train_from_iterator(corpus(fragments)[:1200], trainers.UnigramTrainer(
        vocab_size=1500, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False))
    t.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>",
                                                     special_tokens=[("</s>", t.token_to_id("</s>"))])
    save_compact(t, path)


def train_spm(fragments, path, kind):
    import sentencepiece
    clean = [x.replace("\n", " ").replace("\r", " ").replace("\0", " ") for x in corpus(fragments)[:1200]]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([x for x in clean if x.strip()]), model_prefix=path[:-6], vocab_size=1200,
        model_type=kind, byte_fallback=True, character_coverage=0.98, minloglevel=2, num_threads=1,
        normalization_rule_name="identity" if kind == "bpe" else "nmt_nfkc",
        remove_extra_whitespaces=kind == "unigram", hard_vocab_limit=False)
    os.remove(path[:-6] + ".vocab")


def main(outdir):
    from tokenizers import Tokenizer
    here = os.path.join(outdir, "text")
    fragments = json.load(open(os.path.join(here, "fragments.json"), encoding="utf-8"))
    lines = [make_line(fragments, i) for i in range(LINES)]

    def tiny(name, train, *args):
        path = os.path.join(here, name)
        if not os.path.exists(path) or os.environ.get("RETRAIN"):
            train(fragments, path, *args)
        return path

    for name, train in (("tiny_bpe", train_bpe), ("tiny_llama", train_llama), ("tiny_unigram", train_unigram)):
        t = Tokenizer.from_file(tiny(name + ".json", train))
        write_hashes(os.path.join(here, name + ".hash"), lambda s: t.encode(s, add_special_tokens=True).ids, lines)
    for kind in ("bpe", "unigram"):
        import sentencepiece
        p = sentencepiece.SentencePieceProcessor(model_file=tiny(f"spm_{kind}.model", train_spm, kind))
        write_hashes(os.path.join(here, f"spm_{kind}.hash"), p.encode, [x.replace("\0", "") for x in lines])
    if "CLIP_DIR" in os.environ:
        from transformers import CLIPTokenizer
        t = CLIPTokenizer.from_pretrained(os.environ["CLIP_DIR"])
        write_hashes(os.path.join(here, "clip.hash"), lambda s: t(s)["input_ids"], lines)
    if "QWEN_JSON" in os.environ:
        t = Tokenizer.from_file(os.environ["QWEN_JSON"])
        write_hashes(os.path.join(here, "qwen3.hash"), lambda s: t.encode(s).ids, lines)
