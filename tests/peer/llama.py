#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""GGUF both ways between limn and llama.cpp, on a small Qwen3-VL of random weights.

usage: llama.py LIMN PEER WORK [--split GGUF_SPLIT] [--types f32,q4_k_m] [--fixture FOLDER]

LIMN is the program, PEER llama_peer (get_llama.sh makes it), WORK a folder for some 200 MB of files.
For every type: limn writes a file and llama.cpp answers from it; llama.cpp writes one and limn answers.
Both answer every file, so four answers are compared: with f32 weights log-probabilities agree to
1e-4, with f16 to 5e-3 (llama.cpp rounds activations to the type of the weights), with other types it rounds
activations to 8 bits, so they are a little away. Greedy tokens are equal as long as the likeliest two are not
closer than that. The pair with a vision tower is asked about pictures. Prints a table; exit code 1 and the reasons
on any miss.

--fixture writes tests/golden/llama: a file by llama.cpp with a tensor of every type, split by gguf-split, and
what llama.cpp answers from it.
"""
import argparse
import json
import math
import os
import random
import struct
import subprocess
import sys
import zlib
from pathlib import Path

# type, greatest distance of log-probabilities (root mean square over limn's 20 likeliest)
ROUNDED, PICTURE = 0.25, 0.02
TYPES = [("f32", 1e-4), ("f16", 5e-3), ("bf16", 0.05)] + [
    (t, ROUNDED) for t in ("q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q2_k", "q3_k_s", "q3_k_m", "q4_k_s", "q4_k_m",
                              "q5_k_s", "q5_k_m", "q6_k", "iq4_nl", "iq4_xs")]
QUESTIONS = ["Tell me about the sea.", "Zwei Füchse & 42 caf\u00e9s: 3.14 \u4f60\u597d\n  end", "x"]
TOKENS = 24
SIZES = [(160, 128), (96, 96), (64, 256)]  # multiples of 32: neither side resizes


def run(args, env=None):
    r = subprocess.run([str(a) for a in args], capture_output=True, text=True, env=env)
    if r.returncode != 0:
        sys.exit(f"{' '.join(map(str, args[:4]))} ...: exit {r.returncode}\n{r.stderr[-2000:]}")
    return r.stdout


def png(path, w, h, rgb):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + rgb[3 * w * y : 3 * w * (y + 1)] for y in range(h))
    head = struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) +
                     chunk(b"IEND", b""))


class Judge:
    def __init__(self, limn, peer, work):
        self.limn_path, self.peer_path, self.work, self.rows, self.bad = limn, peer, work, [], []

    def limn(self, model, question, picture=None):
        args = [self.limn_path, "see", "-m", model, "--json", "--logprobs", 20, "--temperature", 0, "-n", TOKENS,
                "--precision", "exact", "-t", 1, "--cache-dir", "none"]
        a = json.loads(run(args + ([picture] if picture else []) + [question]))
        tops = [{p["id"]: p["logprob"] for p in t["top"]} for t in a["logprobs"]]
        return {"n": a["usage"]["prompt_tokens"], "tokens": [p["id"] for p in a["logprobs"]], "first": tops[0],
                "tops": tops}

    def peer(self, model, question, mmproj=None, picture=None):
        seen = "<__media__>" if mmproj else ""  # mtmd writes the marks around a picture itself
        prompt = f"<|im_start|>user\n{seen}{question}<|im_end|>\n<|im_start|>assistant\n"
        more = [mmproj, picture[0], picture[1], picture[2]] if mmproj else []
        return json.loads(run([self.peer_path, "ask", model, prompt, TOKENS, *more]))

    def compare(self, what, limit, a, b):
        """limn's answer a and the peer's b about the same file."""
        far = math.sqrt(sum((b["logprobs"][i] - v) ** 2 for i, v in a["first"].items()) / len(a["first"]))
        n = min(len(a["tokens"]), len(b["tokens"]))
        same = next((i for i in range(n) if a["tokens"][i] != b["tokens"][i]), n)
        why = []
        if a["n"] != len(b["prompt"]):
            why.append(f"prompts of {a['n']} and {len(b['prompt'])} tokens")
        if far > limit:
            why.append(f"log-probabilities {far:.4f} apart, at most {limit}")
        if same < n:  # afterwards the texts differ
            top = a["tops"][same]
            gap = top[a["tokens"][same]] - top.get(b["tokens"][same], -math.inf)
            if gap > 4 * limit:
                why.append(f"token {same} is {a['tokens'][same]}, not {b['tokens'][same]}, by {gap:.4f}")
        if why:
            self.bad.append(f"{what}: " + "; ".join(why))
        return far, same, n

    def file(self, name, model, limit):
        far = same = n = 0
        for q in QUESTIONS:
            f, s, k = self.compare(f"{name}: {q!r}", limit, self.limn(model, q), self.peer(model, q))
            far, same, n = max(far, f), same + s, n + k
        self.rows.append((name, far, same, n))
        print(f"{name:28} log-probabilities {far:.5f} apart, {same} of {n} tokens the same", flush=True)

    def picture(self, name, model, mmproj, limit, w, h):
        rng = random.Random(w * 1000 + h)
        rgb = bytes((rng.randrange(64) + x * 191 // w if c != 1 else y * 255 // h) for y in range(h) for x in range(w)
                    for c in range(3))
        raw, image = self.work / "picture.rgb", self.work / "picture.png"
        raw.write_bytes(rgb)
        png(image, w, h, rgb)
        q = "What is it?"
        f, s, k = self.compare(name, limit, self.limn(model, q, image), self.peer(model, q, mmproj, (raw, w, h)))
        print(f"{name:28} log-probabilities {f:.5f} apart, {s} of {k} tokens the same", flush=True)


# every type of a GGUF file; the rest of the matrices are q4_0
MIXED = ["token_embd=q6_K", "^output.weight=q8_0", "blk.0.attn_q.=q4_1", "blk.0.attn_k=q5_0", "blk.0.attn_v=q5_1",
         "blk.0.attn_output=q2_K", "blk.0.ffn_gate=q3_K", "blk.0.ffn_up=q4_K", "blk.0.ffn_down=q5_K",
         "blk.1.attn_q.=iq4_nl", "blk.1.attn_k=iq4_xs", "blk.1.attn_v=f16", "blk.1.attn_output=bf16"]


def write_fixture(o, root):
    out = Path(o.fixture)
    out.mkdir(parents=True, exist_ok=True)
    folder, base, mixed = o.work / "small", o.work / "small-f32.gguf", o.work / "mixed.gguf"
    run([sys.executable, root / "bench/random_qwen3vl.py", "small", folder])
    run([o.limn, "quantize", folder, base, "--type", "f32", "--overwrite", "--quiet"])
    run([o.peer, "quantize", base, mixed, "q4_0", *MIXED])
    for old in out.glob("*.gguf"):
        old.unlink()
    run([o.split, "--split", "--split-max-tensors", "10", mixed, out / "mixed"])
    j = Judge(o.limn, o.peer, o.work)
    answers = [{"question": q, **j.peer(mixed, q)} for q in QUESTIONS]
    for a in answers:
        a["logprobs"] = [round(v, 5) for v in a["logprobs"]]
    (out / "mixed.json").write_text(json.dumps(answers, ensure_ascii=False, indent=None) + "\n")
    print(f"{out}: {len(list(out.glob('*.gguf')))} files")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("limn")
    p.add_argument("peer")
    p.add_argument("work", type=Path)
    p.add_argument("--split")
    p.add_argument("--types", help="only these, by commas")
    p.add_argument("--fixture")
    o = p.parse_args()
    root = Path(__file__).resolve().parents[2]
    o.work.mkdir(parents=True, exist_ok=True)
    if o.fixture:
        return write_fixture(o, root)
    folder = o.work / "tiny"
    run([sys.executable, root / "bench/random_qwen3vl.py", "tiny", folder])
    j = Judge(o.limn, o.peer, o.work)
    chosen = [t for t in TYPES if not o.types or t[0] in o.types.split(",")]
    base = o.work / "limn" / "limn-f32.gguf"
    base.parent.mkdir(exist_ok=True)
    (o.work / "peer").mkdir(exist_ok=True)
    run([o.limn, "quantize", folder, base, "--type", "f32", "--overwrite", "--quiet"])
    vision = base.parent / "mmproj-limn-f32.gguf"
    for kind, limit in chosen:
        file = base.parent / f"limn-{kind}.gguf"
        if kind != "f32":
            run([o.limn, "quantize", folder, file, "--type", kind, "--overwrite", "--quiet"])
        j.file(f"limn writes {kind}", file, limit)
        file = o.work / "peer" / f"peer-{kind}.gguf"
        run([o.peer, "quantize", base, file, kind])
        j.file(f"llama.cpp writes {kind}", file, limit)
    if "mtmd" in run([o.peer, "features"]):
        for w, h in SIZES:
            j.picture(f"pair, picture of {w}x{h}", base, vision, PICTURE, w, h)
        q8 = base.parent / "limn-q8_0.gguf"
        if q8.exists():
            j.picture("pair in q8_0", q8, base.parent / "mmproj-limn-q8_0.gguf", 2 * ROUNDED, *SIZES[0])
    if o.split:
        parts = o.work / "split"
        parts.mkdir(exist_ok=True)
        for old in parts.glob("*.gguf"):
            old.unlink()
        run([o.split, "--split", "--split-max-tensors", "12", base, parts / "tiny"])
        first = sorted(parts.glob("*.gguf"))
        a, b = j.limn(first[0], QUESTIONS[0]), j.limn(base, QUESTIONS[0])
        print(f"split into {len(first)} files by llama.cpp: {'the same' if a == b else 'ANOTHER'} answer")
        if a != b or len(first) < 4:
            j.bad.append("split files")
    for why in j.bad:
        print("FAILED", why)
    return 1 if j.bad else 0


if __name__ == "__main__":
    sys.exit(main())
