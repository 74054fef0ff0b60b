#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Qwen3-VL with random weights and a made-up vocabulary, in the real shapes: for time and memory.

usage: random_qwen3vl.py SHAPE TYPE FOLDER [LAYERS]   SHAPE-TYPE.gguf and mmproj-SHAPE.gguf, llama.cpp's pair;
                                              of the language model's layers that many
       random_qwen3vl.py --sparse SHAPE TYPE FOLDER [LAYERS]   without numbers: holes on the disk, read as zeros
       random_qwen3vl.py tiny FOLDER          a transformers folder whose rows fit blocks of 256
       random_qwen3vl.py small FOLDER         the same with half of the layers and a vocabulary of 300

SHAPE is 2b, 4b, 8b, 32b or 30b-a3b; TYPE f16, bf16, q8_0, q4_0, or q4_k_m (llama.cpp's mix of q4_K and
q6_K). Blocks are written as they are, without numbers being quantised, so a file takes as long as the
disk: 32b q4_k_m has 19.8 GB. The vocabulary has Qwen's size (151,643 tokens from 151,387 merges, the
control tokens at their ids). Needs numpy.
"""
import json
import math
import struct
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools/reference"))
from byte_letters import byte_letters  # noqa: E402

# width, feed-forward, layers, heads, kv heads, tied, experts, chosen, feed-forward of one; tower: width, blocks,
# feed-forward, heads, blocks with a merger of their own
SMALL, LARGE = (1024, 24, 4096, 16, (5, 11, 17)), (1152, 27, 4304, 16, (8, 16, 24))
SHAPES = {
    "2b": (2048, 6144, 28, 16, 8, True, 0, 0, 0, SMALL),
    "4b": (2560, 9728, 36, 32, 8, True, 0, 0, 0, SMALL),
    "8b": (4096, 12288, 36, 32, 8, False, 0, 0, 0, LARGE),
    "32b": (5120, 25600, 64, 64, 8, False, 0, 0, 0, LARGE),
    "30b-a3b": (2048, 6144, 48, 32, 4, False, 128, 8, 768, LARGE),
}
HEAD, VOCAB, TEXT_TOKENS = 128, 151936, 151643
# number in GGUF, numbers and bytes of a block
TYPES = {"f32": (0, 1, 4), "f16": (1, 1, 2), "q4_0": (2, 32, 18), "q8_0": (8, 32, 34), "q4_k": (12, 256, 144),
         "q6_k": (14, 256, 210), "bf16": (30, 1, 2)}
FILE_TYPE = {"f16": 1, "q4_0": 2, "q8_0": 7, "q4_k_m": 15, "bf16": 32}
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
           "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
           "<|image_pad|>", "<|video_pad|>"]
PLAIN = ["<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>",
         "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>", "<think>", "</think>"]
TEMPLATE = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + "
            "'<|im_end|>\\n' }}{% endfor %}{{ '<|im_start|>assistant\\n' }}")

# ---- vocabulary ----


def vocabulary(n):
    """n tokens: bytes, then words that grow by merging two earlier ones, letters with letters."""
    tokens = byte_letters()
    have = {t: i for i, t in enumerate(tokens)}
    merges = []
    letters = [c for c in tokens if c.isalpha() and c.isascii()]
    starts = ["\u0120"] + letters  # a space before a word is a letter of its own
    pieces, rng = list(starts), np.random.default_rng(5)
    while len(tokens) < n:
        draws = rng.random((4096, 2)) ** 3  # short pieces meet often
        for a, b in draws:
            left = pieces[int(a * len(pieces))]
            right = pieces[int(b * len(pieces))]
            word = left + right
            if word in have or len(word) > 12 or "\u0120" in right or len(tokens) == n:
                continue
            have[word] = len(tokens)
            tokens.append(word)
            pieces.append(word)
            merges.append(f"{left} {right}")
    return tokens, merges


def qwen_tokens():
    tokens, merges = vocabulary(TEXT_TOKENS)
    types = [1] * TEXT_TOKENS
    tokens += CONTROL + PLAIN
    types += [3] * len(CONTROL) + [4] * len(PLAIN)
    while len(tokens) < VOCAB:
        tokens.append(f"[PAD{len(tokens)}]")
        types.append(5)
    return tokens, types, merges


# ---- GGUF ----


def text(s):
    b = s.encode()
    return struct.pack("<Q", len(b)) + b


class Gguf:
    """Keys and tensors of a file, written at once; ggml's order of dimensions."""

    def __init__(self, arch):
        self.keys, self.n_keys, self.tensors = [], 0, []
        self.arch = arch
        self.key("general.architecture", 8, text(arch))

    def key(self, name, kind, data):
        self.keys.append(text(name) + struct.pack("<I", kind) + data)
        self.n_keys += 1

    def u32(self, name, v):
        self.key(name, 4, struct.pack("<I", v))

    def f32(self, name, v):
        self.key(name, 6, struct.pack("<f", v))

    def flag(self, name, v):
        self.key(name, 7, struct.pack("<?", v))

    def words(self, name, s):
        self.key(name, 8, text(s))

    def array(self, name, kind, items):
        fmt = {5: "<i", 6: "<f", 7: "<?"}
        body = b"".join(text(x) if kind == 8 else struct.pack(fmt[kind], x) for x in items)
        self.key(name, 9, struct.pack("<IQ", kind, len(items)) + body)

    def add(self, name, dims, kind, fill=None):
        self.tensors.append((name, dims, kind, fill))

    def write(self, path, sparse):
        info, at = [], 0
        for name, dims, kind, _ in self.tensors:
            number, per, size = TYPES[kind]
            info.append(text(name) + struct.pack("<I", len(dims)) + b"".join(struct.pack("<Q", d) for d in dims) +
                        struct.pack("<IQ", number, at))
            at += (math.prod(dims) // per * size + 31) // 32 * 32
        head = struct.pack("<4sIQQ", b"GGUF", 3, len(self.tensors), self.n_keys) + b"".join(self.keys) + b"".join(info)
        blocks, n_tensors = {}, len(self.tensors)
        with open(path, "wb") as f:
            f.write(head + b"\0" * (-len(head) % 32))
            if sparse:
                f.truncate(f.tell() + at)
            for i, (_, dims, kind, fill) in enumerate([] if sparse else self.tensors):
                _, per, size = TYPES[kind]
                n = math.prod(dims)
                if fill is not None:
                    data = np.full(n, fill, np.float32 if kind == "f32" else np.float16).tobytes()
                    f.write(data)
                else:
                    write_blocks(f, blocks, kind, dims[0], n // per, i)
                f.write(b"\0" * (-(n // per * size) % 32))
        print(f"{path}: {n_tensors} tensors, {at / 1e9:.2f} GB")


def make_blocks(kind, width):
    """Some megabytes of blocks whose numbers have a deviation of about 0.7 / sqrt(width)."""
    rng, std = np.random.default_rng(width), 0.7 / math.sqrt(width)
    _, per, size = TYPES[kind]
    n = (1 << 23) // size
    if kind in ("f32", "f16"):
        x = rng.standard_normal((n, 1), dtype=np.float32) * np.float32(std)
        return x.astype(np.float32 if kind == "f32" else np.float16).view(np.uint8)
    if kind == "bf16":
        return (rng.standard_normal((n, 1), dtype=np.float32) * np.float32(std)).view(np.uint16)[:, 1:].copy().view(np.uint8)
    b = np.frombuffer(rng.bytes(n * size), np.uint8).reshape(n, size).copy()

    def half(column, value):
        b[:, column : column + 2] = np.frombuffer(np.float16(value).tobytes(), np.uint8)

    if kind == "q4_0":
        half(0, std / 4.6)
    elif kind == "q8_0":
        half(0, std / 74)
    elif kind == "q4_k":  # every group: scale 32, least 32; numbers d * 32 * (q - 7.5)
        half(0, std / 4.6 / 32)
        half(2, std / 4.6 / 32 * 7.5)
        b[:, 4:12], b[:, 12:16] = 32, 0
    elif kind == "q6_k":
        b[:, 192:208] = 16
        half(208, std / 18.5 / 16)
    return b


def write_blocks(f, cache, kind, width, n, seed):
    if (kind, width) not in cache:
        cache[kind, width] = make_blocks(kind, width)
    source = cache[kind, width]
    at = seed * 7919 % (len(source) // 2)
    while n > 0:  # cut at another place for every tensor
        piece = source[at : at + n]
        f.write(piece.data)
        n, at = n - len(piece), 0


# ---- the two files ----


def q4_k_m(name, layer, layers):
    """What llama.cpp's q4_k_m gives a tensor: half of the sensitive ones q6_K."""
    more = layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2
    return "q6_k" if more and ("attn_v" in name or "ffn_down" in name) else "q4_k"


def language_model(shape, kind, path, sparse, layers=0):
    width, ff, all_layers, heads, kv, tied, experts, chosen, expert_ff, _ = SHAPES[shape]
    layers = layers or all_layers
    arch = "qwen3vlmoe" if experts else "qwen3vl"
    g = Gguf(arch)
    g.words("general.name", f"random-qwen3-vl-{shape}")
    g.u32("general.file_type", FILE_TYPE[kind])
    g.u32("general.quantization_version", 2)
    for key, v in {"block_count": layers, "context_length": 262144, "embedding_length": width,
                   "feed_forward_length": ff, "attention.head_count": heads, "attention.head_count_kv": kv,
                   "attention.key_length": HEAD, "attention.value_length": HEAD, "n_deepstack_layers": 3,
                   "vocab_size": VOCAB}.items():
        g.u32(f"{arch}.{key}", v)
    if experts:
        for key, v in {"expert_count": experts, "expert_used_count": chosen,
                       "expert_feed_forward_length": expert_ff}.items():
            g.u32(f"{arch}.{key}", v)
    g.f32(f"{arch}.attention.layer_norm_rms_epsilon", 1e-6)
    g.f32(f"{arch}.rope.freq_base", 5e6)
    g.array(f"{arch}.rope.dimension_sections", 5, [24, 20, 20, 0])
    tokens, types, merges = qwen_tokens()
    g.words("tokenizer.ggml.model", "gpt2")
    g.words("tokenizer.ggml.pre", "qwen2")
    g.array("tokenizer.ggml.tokens", 8, tokens)
    g.array("tokenizer.ggml.token_type", 5, types)
    g.array("tokenizer.ggml.merges", 8, merges)
    g.u32("tokenizer.ggml.eos_token_id", 151645)
    g.u32("tokenizer.ggml.padding_token_id", 151643)
    g.u32("tokenizer.ggml.bos_token_id", 151643)
    g.flag("tokenizer.ggml.add_bos_token", False)
    g.words("tokenizer.chat_template", TEMPLATE)

    def of(name, layer=0):
        return q4_k_m(name, layer, layers) if kind == "q4_k_m" else kind

    last = "q6_k" if kind == "q4_k_m" else kind
    g.add("token_embd.weight", (width, VOCAB), last if tied else of("token_embd", layers // 2))
    g.add("output_norm.weight", (width,), "f32", 1)
    if not tied:
        g.add("output.weight", (width, VOCAB), last)
    for i in range(layers):
        b = f"blk.{i}."
        for norm, n in (("attn_norm", width), ("ffn_norm", width), ("attn_q_norm", HEAD), ("attn_k_norm", HEAD)):
            g.add(f"{b}{norm}.weight", (n,), "f32", 1)
        rows = [("attn_q", width, heads * HEAD), ("attn_k", width, kv * HEAD), ("attn_v", width, kv * HEAD),
                ("attn_output", heads * HEAD, width)]
        if not experts:
            rows += [("ffn_gate", width, ff), ("ffn_up", width, ff), ("ffn_down", ff, width)]
        for name, n, m in rows:
            g.add(f"{b}{name}.weight", (n, m), of(name, i))
        if experts:
            g.add(f"{b}ffn_gate_inp.weight", (width, experts), "f32")
            for name, n, m in (("gate", width, expert_ff), ("up", width, expert_ff), ("down", expert_ff, width)):
                g.add(f"{b}ffn_{name}_exps.weight", (n, m, experts), of("ffn_" + name, i))
    g.write(path, sparse)


def tower(shape, path, sparse):
    width, *_, (v_width, blocks, ff, heads, deep) = SHAPES[shape]
    g = Gguf("clip")
    g.words("general.type", "mmproj")
    g.flag("clip.has_vision_encoder", True)
    g.words("clip.projector_type", "qwen3vl_merger")
    g.flag("clip.use_gelu", True)
    for key, v in {"image_size": 768, "patch_size": 16, "embedding_length": v_width, "feed_forward_length": ff,
                   "block_count": blocks, "attention.head_count": heads, "projection_dim": width,
                   "spatial_merge_size": 2}.items():
        g.u32("clip.vision." + key, v)
    g.f32("clip.vision.attention.layer_norm_epsilon", 1e-6)
    g.array("clip.vision.image_mean", 6, [0.5] * 3)
    g.array("clip.vision.image_std", 6, [0.5] * 3)
    g.array("clip.vision.is_deepstack_layers", 7, [i in deep for i in range(blocks)])

    def linear(name, n, m):
        g.add(name + ".weight", (n, m), "f16")
        g.add(name + ".bias", (m,), "f32", 0)

    def norm(name, n):
        g.add(name + ".weight", (n,), "f32", 1)
        g.add(name + ".bias", (n,), "f32", 0)

    for name in ("v.patch_embd.weight", "v.patch_embd.weight.1"):
        g.add(name, (16, 16, 3, v_width), "f16")
    g.add("v.patch_embd.bias", (v_width,), "f32", 0)
    g.add("v.position_embd.weight", (v_width, 2304), "f32")
    for i in range(blocks):
        b = f"v.blk.{i}."
        norm(b + "ln1", v_width)
        norm(b + "ln2", v_width)
        linear(b + "attn_qkv", v_width, 3 * v_width)
        linear(b + "attn_out", v_width, v_width)
        linear(b + "ffn_up", v_width, ff)
        linear(b + "ffn_down", ff, v_width)
    norm("v.post_ln", v_width)
    linear("mm.0", 4 * v_width, 4 * v_width)
    linear("mm.2", 4 * v_width, width)
    for i in deep:
        d = f"v.deepstack.{i}."
        norm(d + "norm", 4 * v_width)
        linear(d + "fc1", 4 * v_width, 4 * v_width)
        linear(d + "fc2", 4 * v_width, width)
    g.write(path, sparse)


# ---- a small folder ----

TINY = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 64, "rms_norm_eps": 1e-6, "rope_theta": 5000000,
        "max_position_embeddings": 4096, "vocab_size": 1000, "hidden_act": "silu", "attention_bias": False,
        "rope_scaling": {"rope_type": "default", "mrope_interleaved": True, "mrope_section": [12, 10, 10]}}
TINY_TOWER = {"depth": 4, "hidden_size": 64, "num_heads": 2, "intermediate_size": 96, "patch_size": 16,
              "temporal_patch_size": 2, "spatial_merge_size": 2, "in_channels": 3, "num_position_embeddings": 36,
              "deepstack_visual_indexes": [0, 1, 3], "out_hidden_size": 256, "hidden_act": "gelu_pytorch_tanh"}
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")


SMALL_TEXT = {**TINY, "intermediate_size": 256, "num_hidden_layers": 2, "num_key_value_heads": 1, "vocab_size": 300}


SMALL_TOWER = {**TINY_TOWER, "deepstack_visual_indexes": [2]}  # llama.cpp: never after the last layer


def tiny_tensors(t, v):
    width, ff, head = t["hidden_size"], t["intermediate_size"], t["head_dim"]
    q, kv = t["num_attention_heads"] * head, t["num_key_value_heads"] * head
    p = "model.language_model."
    yield p + "embed_tokens.weight", (t["vocab_size"], width), 1.0
    yield p + "norm.weight", (width,), None
    yield "lm_head.weight", (t["vocab_size"], width), 3.0  # greedy tokens far apart
    for i in range(t["num_hidden_layers"]):
        b = f"{p}layers.{i}."
        for name, n in (("input_layernorm", width), ("post_attention_layernorm", width), ("self_attn.q_norm", head),
                        ("self_attn.k_norm", head)):
            yield f"{b}{name}.weight", (n,), None
        for name, m, n in (("self_attn.q_proj", q, width), ("self_attn.k_proj", kv, width),
                           ("self_attn.v_proj", kv, width), ("self_attn.o_proj", width, q),
                           ("mlp.gate_proj", ff, width), ("mlp.up_proj", ff, width), ("mlp.down_proj", width, ff)):
            yield f"{b}{name}.weight", (m, n), 1.0
    p, w, ff, out = "model.visual.", v["hidden_size"], v["intermediate_size"], v["out_hidden_size"]
    yield p + "pos_embed.weight", (v["num_position_embeddings"], w), 4.0
    rows = [("patch_embed.proj", (w, 3, 2, 16, 16))]
    norms = [("merger.norm", w)]
    for i in range(v["depth"]):
        b = f"blocks.{i}."
        norms += [(b + "norm1", w), (b + "norm2", w)]
        rows += [(b + "attn.qkv", (3 * w, w)), (b + "attn.proj", (w, w)), (b + "mlp.linear_fc1", (ff, w)),
                 (b + "mlp.linear_fc2", (w, ff))]
    mergers = [f"deepstack_merger_list.{i}" for i in range(len(v["deepstack_visual_indexes"]))]
    norms += [(m + ".norm", 4 * w) for m in mergers]
    for m in ["merger"] + mergers:
        rows += [(m + ".linear_fc1", (4 * w, 4 * w)), (m + ".linear_fc2", (out, 4 * w))]
    for name, shape in rows:
        yield f"{p}{name}.weight", shape, 1.0
        yield f"{p}{name}.bias", shape[:1], 0.0
    for name, n in norms:
        yield f"{p}{name}.weight", (n,), None
        yield f"{p}{name}.bias", (n,), 0.0


def tiny_folder(folder, shape, tower_shape):
    folder.mkdir(parents=True, exist_ok=True)
    first = shape["vocab_size"] - 13  # every row is a token
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|image_pad|>", "<|video_pad|>", "<|vision_start|>",
             "<|vision_end|>"]
    control = {first + i: s for i, s in enumerate(names)}
    plain = {first + 7 + i: s for i, s in enumerate(["<tool_call>", "</tool_call>", "<tool_response>",
                                                     "</tool_response>", "<think>", "</think>"])}
    tokens, merges = vocabulary(first)
    added = [{"id": i, "content": s, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
              "special": i in control} for i, s in sorted({**control, **plain}.items())]
    tokenizer = {"version": "1.0", "added_tokens": added, "normalizer": {"type": "NFC"},
                 "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                     {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False},
                     {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]},
                 "decoder": {"type": "ByteLevel"},
                 "model": {"type": "BPE", "vocab": {s: i for i, s in enumerate(tokens)}, "merges": merges}}
    config = {"architectures": ["Qwen3VLForConditionalGeneration"], "model_type": "qwen3_vl",
              "image_token_id": first + 3, "video_token_id": first + 4, "vision_start_token_id": first + 5,
              "vision_end_token_id": first + 6, "tie_word_embeddings": False,
              "text_config": {**shape, "model_type": "qwen3_vl_text"},
              "vision_config": {**tower_shape, "model_type": "qwen3_vl"}}
    files = {"config.json": config, "tokenizer.json": tokenizer,
             "tokenizer_config.json": {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
                                       "chat_template": TEMPLATE},
             "generation_config.json": {"eos_token_id": [first + 2, first], "do_sample": False},
             "preprocessor_config.json": {"size": {"shortest_edge": 4096, "longest_edge": 1048576}}}
    for name, tree in files.items():
        (folder / name).write_text(json.dumps(tree, ensure_ascii=False), encoding="utf-8")
    rng, header, data, at = np.random.default_rng(12), {}, [], 0
    for name, shape, scale in tiny_tensors(shape, tower_shape):
        if scale is None:  # a norm
            x = rng.uniform(0.5, 1.5, shape)
        elif len(shape) == 1:
            x = rng.standard_normal(shape) * 0.1
        else:
            x = rng.standard_normal(shape) * scale / math.sqrt(math.prod(shape[1:]))
        x = (x.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)  # bf16
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + x.nbytes]}
        data.append(x.tobytes())
        at += x.nbytes
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + b"".join(data))
    print(f"{folder}: {len(header)} tensors, {at / 1e6:.1f} MB")


def main(args):
    sparse = args[:1] == ["--sparse"]
    args = args[1:] if sparse else args
    if len(args) == 2 and args[0] in ("tiny", "small"):
        tiny_folder(Path(args[1]), *((TINY, TINY_TOWER) if args[0] == "tiny" else (SMALL_TEXT, SMALL_TOWER)))
    elif len(args) in (3, 4) and args[0] in SHAPES and args[1] in FILE_TYPE and all(a.isdigit() for a in args[3:]):
        folder = Path(args[2])
        folder.mkdir(parents=True, exist_ok=True)
        language_model(args[0], args[1], folder / f"{args[0]}-{args[1]}.gguf", sparse, *map(int, args[3:]))
        tower(args[0], folder / f"mmproj-{args[0]}.gguf", sparse)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
