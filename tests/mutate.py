#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Does a test notice when a rule of Qwen3-VL is broken? Breaks one rule at a time in a copy of the sources, builds, runs
the test that should notice, and restores. Not part of the suite (a rebuild per rule): `make mutants`, or

    python3 tests/mutate.py FOLDER [name...]

FOLDER gets the copy and its build; it is used again the next time. Only the rules whose names hold one of the names are
broken, all without one. Prints a line per rule; exit status 1 when one was broken and nobody noticed, or when the test
fails without any.
"""
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
HOST, VISION, DECODER = "src/models/qwen3vl_host.c", "src/models/qwen3vl_vision.c", "src/models/decoder.c"
ROPE, TALK, LOOK = "src/models/rope_table.c", "src/pipeline/talk.c", "src/pipeline/look.c"
# rule, file, what is there, what takes its place, tests that notice
MUTATIONS = [
    ("align_corners off", HOST, "(float)(side - 1)", "(float)(side)", "qwen3vl"),
    ("half-up rounding of sizes", HOST, "return rint(x / factor) * factor;", "return floor(x / factor + 0.5) * factor;", "qwen3vl"),
    ("limits in another order", HOST, "h = ceil(height * beta / factor) * factor;", "h = floor(height * beta / factor) * factor;",
     "qwen3vl"),
    ("sectioned M-RoPE", ROPE, "int axis = i % 3;\n    return axis > 0 && i < 3 * c->section[axis] ? axis : 0;",
     "return i < c->section[0] || !c->section[0] ? 0 : i < c->section[0] + c->section[1] ? 1 : 2;", "qwen3vl"),
    ("deepstack off", DECODER, "if (!b->req->deepstack || layer >= c->deepstack) return x;", "return x;", "qwen3vl"),
    ("deepstack one layer late", DECODER,
     "if (!b->req->deepstack || layer >= c->deepstack) return x;\n    snprintf(p, sizeof p, \"deepstack.%d\", layer);",
     "if (!b->req->deepstack || layer < 1 || layer > c->deepstack) return x;\n"
     "    snprintf(p, sizeof p, \"deepstack.%d\", layer - 1);", "qwen3vl"),
    ("deepstack norm before joining", VISION, "merger(nn, cfg, req, x, name, true)", "merger(nn, cfg, req, x, name, false)", "qwen3vl"),
    ("last norm after joining", VISION, "merger(nn, cfg, req, x, \"merger\", false)", "merger(nn, cfg, req, x, \"merger\", true)",
     "qwen3vl"),
    ("erf in the blocks", VISION, "LIMN_ACT_GELU_TANH", "LIMN_ACT_GELU", "qwen3vl"),
    ("tanh in the mergers", VISION, "SUB(\"linear_fc1\")), LIMN_ACT_GELU)", "SUB(\"linear_fc1\")), LIMN_ACT_GELU_TANH)", "qwen3vl"),
    ("QK norm after rotation", DECODER,
     "if (norm) x = limn_g_rms_norm(nn->g, x, norm, b->cfg->norm_eps);\n"
     "    limn_attr a = {.heads = heads, .rope_pairs = b->cfg->rope.pairs};\n"
     "    return limn_g_rope(nn->g, x, b->cosines, b->sines, &a);",
     "limn_attr a = {.heads = heads, .rope_pairs = b->cfg->rope.pairs};\n"
     "    x = limn_g_rope(nn->g, x, b->cosines, b->sines, &a);\n"
     "    return norm ? limn_g_rms_norm(nn->g, x, norm, b->cfg->norm_eps) : x;", "qwen3vl"),
    ("rows and columns swapped in the tower", HOST, "(float)(i < n ? row : col)", "(float)(i < n ? col : row)", "qwen3vl"),
    ("rows and columns swapped in the text", HOST, "pos[n + i] = p + (int32_t)(j / v->cols);\n"
     "            pos[2 * n + i] = p + (int32_t)(j % v->cols);",
     "pos[n + i] = p + (int32_t)(j % v->cols);\n            pos[2 * n + i] = p + (int32_t)(j / v->cols);", "qwen3vl"),
    ("second frame left out", HOST, "(t ? second : first)", "(t ? first : first)", "qwen3vl"),
    ("position advances by the area", HOST, "p += v->rows > v->cols ? v->rows : v->cols;", "p += v->rows * v->cols;", "qwen3vl"),
    ("mean and deviation of CLIP", HOST, "((float)v - 127.5f) / 127.5f", "((float)v / 255.0f - 0.4815f) / 0.2686f", "qwen3vl"),
    ("patches in raster order", HOST, "*row = (int)(b / blocks) * g->merge + (int)(in / g->merge);\n"
     "    *col = (int)(b % blocks) * g->merge + (int)(in % g->merge);",
     "*row = (int)(g->i / g->cols) + (int)(0 * (in + b + blocks));\n    *col = (int)(g->i % g->cols);", "qwen3vl"),
    ("tied embedding ignored", DECODER, "b->cfg->tied ? NULL : limn_nn_find", "limn_nn_find", "qwen3vl"),
    ("KV row taken for the rotary position", "src/pipeline/reader.c",
     "int32_t at = r->marks[sequences[i]].position, pos[3]", "int32_t at = (int32_t)r->marks[sequences[i]].length, pos[3]", "talks"),
    ("a prefix that ignores what a picture shows", "src/pipeline/see.c",
     "memcmp(&a->key, &b->key, sizeof a->key) == 0;", "true;", "see"),
    ("timestamp of the first frame only", TALK, "m->times[i] = (ta + tb) / 2;", "m->times[i] = ta;", "talks"),
    ("bilinear resizing", TALK, ".filter = LIMN_FILTER_BICUBIC", ".filter = LIMN_FILTER_BILINEAR", "talks"),
    ("rows of padding may be picked", "src/text/tokenizer_gguf.c", "used.n_tokens = count_used(file);", "(void)count_used;", "moe"),
    ("shares of experts not renormalised", "src/kernels/experts.c", "for (int k = 0; k < a->top && sum > 0; k++) share[k]",
     "for (int k = 0; k < 0; k++) share[k]", "moe"),
    ("gate and up of experts swapped", DECODER, "limn_g_unary(g, gate, LIMN_ACT_SILU), up)", "limn_g_unary(g, up, LIMN_ACT_SILU), gate)",
     "moe"),
    ("hub layout of experts not turned", DECODER, "return limn_g_experts(b->nn->g, x, route, w, !own);",
     "return limn_g_experts(b->nn->g, x, route, w, own);", "moe"),
    ("a user's text may become special tokens", "src/text/chat_encode.c", "e->run.data, e->run.len, 0, e->err)",
     "e->run.data, e->run.len, LIMN_ENCODE_ADDED, e->err)", "chat"),
    ("an unfinished branch sees its neighbour", "src/backend/cpu/cpu_ops.c", "j >= span->first && j < span->first + from[i] ? -INFINITY : 0",
     "j < 0 ? -INFINITY : 0", "generate"),
]


def sh(*args, **kwargs):
    return subprocess.run([str(a) for a in args], capture_output=True, text=True, **kwargs)


def copy_sources(folder):
    """The files that git knows, as they are now; what has not changed keeps its time, so that little is built again."""
    names = sh("git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").stdout.split("\0")
    for name in filter(None, names):
        source, to = ROOT / name, folder / name
        if source.is_symlink() or not source.exists():
            continue  # links are of the golden folders, which are read where they are
        data = source.read_bytes()
        if to.exists() and to.read_bytes() == data:
            continue
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(data)
        to.chmod(source.stat().st_mode)


def build(folder, test):
    made = sh("ninja", "-C", folder / "build", "tests/test_" + test)
    if made.returncode != 0:
        sys.exit("does not build\n" + made.stdout[-3000:])


def passes(folder, test):
    env = dict(os.environ, LIMN_GOLDEN_DIR=str(ROOT / "tests/golden"), LIMN_DOCS_DIR=str(ROOT / "docs"))
    return sh(folder / "build/tests" / ("test_" + test), env=env).returncode == 0


def noticed(folder, path, old, new, test):
    file = folder / path
    right = file.read_text()
    if right.count(old) < 1:
        sys.exit("%s has no longer %r" % (path, old))
    try:
        file.write_text(right.replace(old, new, 1))
        build(folder, test)
        return not passes(folder, test)
    finally:
        file.write_text(right)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    folder, names = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2:]
    chosen = [m for m in MUTATIONS if not names or any(n in m[0] for n in names)]
    folder.mkdir(parents=True, exist_ok=True)
    copy_sources(folder)
    if not (folder / "build/build.ninja").exists():
        made = sh("meson", "setup", folder / "build", folder, "-Demulate=true")
        if made.returncode != 0:
            sys.exit(made.stdout[-3000:])
    for test in sorted({m[4] for m in chosen}):
        build(folder, test)
        if not passes(folder, test):
            sys.exit("test_%s fails as it is: it can notice nothing" % test)
    unnoticed = 0
    for name, path, old, new, test in chosen:
        seen = noticed(folder, path, old, new, test)
        unnoticed += not seen
        print("%-45s %s" % (name, ("noticed" if seen else "NOT NOTICED") + " by test_" + test), flush=True)
    print("%d passed, %d failed" % (len(chosen) - unnoticed, unnoticed))
    sys.exit(unnoticed > 0)


if __name__ == "__main__":
    main()
