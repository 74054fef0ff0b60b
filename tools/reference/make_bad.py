# SPDX-License-Identifier: MIT
"""Hostile and odd model files for the loaders, with a manifest of what must happen."""

import collections
import io
import json
import os
import struct
import sys
import warnings
import zipfile

from common import save_st

import torch

warnings.filterwarnings("ignore")
MANIFEST = []
# May be read or refused, as long as nothing breaks.
EITHER = {"st_dims_64.safetensors", "gguf_name_utf8.gguf", "pt_proto.pt", "pt_zip_deflate.pt"}


def put(out, name, data, verdict, why):
    path = f"{out}/bad/{name}"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)
    MANIFEST.append({"file": name, "verdict": "either" if name in EITHER else verdict, "why": why})


# ---------------------------------------------------------------- safetensors


def st(header, data=b"", length=None, pad=True):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    if pad:
        text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype="F32", shape=(2,), off=(0, 8), **more):
    return dict({"dtype": dtype, "shape": list(shape), "data_offsets": list(off)}, **more)


def safetensors_bad(out):
    two = struct.pack("<2f", 1.0, 2.0)
    bad = lambda name, data, why: put(out, f"st_{name}.safetensors", data, "reject", why)
    ok = lambda name, data, why: put(out, f"st_ok_{name}.safetensors", data, "accept", why)
    bad("empty", b"", "no bytes at all")
    bad("short", b"\x08\0\0\0\0\0\0", "seven bytes: no room for the header length")
    bad("len_past_end", st({"a": entry()}, two, 4096), "header length past the end of the file")
    bad("len_2e63", struct.pack("<Q", 2**63) + b"{}", "header length 2^63")
    bad("len_max", struct.pack("<Q", 2**64 - 1) + b"{}", "header length 2^64 - 1: 8 + length wraps")
    bad("len_200mb", struct.pack("<Q", 200 << 20) + b"{}", "header length over any sane limit")
    bad("len_zero", struct.pack("<Q", 0), "empty header")
    bad("not_json", st(b"this is not json"), "header is no JSON")
    bad("json_cut", st(b'{"a":{"dtype":"F32","shape":[2],"data_off'), "JSON ends in a key")
    bad("array", st(b"[1,2,3]"), "header is an array")
    bad("string", st(b'"abc"'), "header is a string")
    bad(
        "utf8",
        st(b'{"\xff\xfe":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', two),
        "invalid UTF-8 name",
    )
    bad(
        "surrogate",
        st(b'{"\\ud800":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', two),
        "lone surrogate in a name",
    )
    one = b'{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
    bad("duplicate", st(b'{"a":' + one + b',"a":' + one + b"}", two), "the same name twice")
    bad(
        "overlap",
        st({"a": entry(), "b": entry(off=(4, 12))}, two + b"\0" * 4),
        "two tensors share bytes",
    )
    bad("past_end", st({"a": entry(shape=(4,), off=(0, 16))}, two), "data past the end of the file")
    bad("begin_after_end", st({"a": entry(off=(8, 0))}, two), "offsets the wrong way round")
    bad("negative_offset", st({"a": entry(off=(-8, 0))}, two), "negative offset")
    bad("float_offset", st({"a": entry(off=(0.0, 8.5))}, two), "fractional offset")
    bad("huge_offset", st({"a": entry(off=(2**63, 2**63 + 8))}, two), "offset beyond 2^63")
    bad(
        "exp_offset",
        st(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,1e400]}}', two),
        "offset 1e400",
    )
    bad("three_offsets", st({"a": entry(off=(0, 4, 8))}, two), "three offsets")
    bad(
        "overflow_shape",
        st({"a": entry(shape=(2**32, 2**32), off=(0, 0))}),
        "shape product wraps to 0",
    )
    bad("overflow_bytes", st({"a": entry(shape=(2**62,), off=(0, 0))}), "bytes wrap to 0")
    bad("size_mismatch", st({"a": entry(shape=(3,))}, two), "shape says 12 bytes, offsets 8")
    bad("negative_dim", st({"a": entry(shape=(-2,))}, two), "negative dimension")
    bad("float_dim", st({"a": entry(shape=(2.5,))}, two), "fractional dimension")
    bad(
        "bool_dim",
        st(b'{"a":{"dtype":"F32","shape":[true,2],"data_offsets":[0,8]}}', two),
        "dimension true",
    )
    bad("dtype", st({"a": entry(dtype="F33")}, two), "unknown dtype")
    bad("dtype_number", st({"a": entry(dtype=7)}, two), "dtype is a number")
    for key in ("dtype", "shape", "data_offsets"):
        e = entry()
        del e[key]
        bad("no_" + key, st({"a": e}, two), f"no {key}")
    bad(
        "hole",
        st({"a": entry(off=(4, 12))}, b"\0" * 4 + two),
        "unused bytes before the first tensor",
    )
    bad("tail", st({"a": entry()}, two + b"xxxx"), "bytes after the last tensor")
    bad("deep", st(b'{"a":' + b"[" * 20000 + b"]" * 20000 + b"}"), "20,000 nested arrays")
    bad("dims_64", st({"a": entry(shape=[1] * 63 + [2])}, two), "64 dimensions")
    bad(
        "metadata_number",
        st({"__metadata__": {"n": 1}, "a": entry()}, two),
        "metadata value is no string",
    )
    bad(
        "data_cut",
        st({"a": entry(), "b": entry(shape=(1000,), off=(8, 4008))}, two + b"\0" * 100),
        "file ends inside the second tensor",
    )
    ok("no_tensors", st({}), "no tensors")
    ok(
        "zero_size",
        st({"a": entry(shape=(0, 4), off=(0, 0)), "b": entry()}, two),
        "a tensor without elements",
    )
    ok("scalar", st({"a": entry(shape=(), off=(0, 4))}, two[:4]), "no dimensions: one element")
    ok(
        "odd_header",
        (
            st({"a": entry()}, two, pad=False)
            if len(json.dumps({"a": entry()})) % 8
            else st({"ab": entry()}, two, pad=False)
        ),
        "header length no multiple of 8: data is unaligned",
    )
    ok(
        "order",
        st({"b": entry(off=(8, 16)), "a": entry()}, two + two),
        "header order is not data order",
    )
    ok(
        "metadata",
        st({"__metadata__": {"format": "pt", "empty": ""}, "a": entry()}, two),
        "metadata",
    )
    ok("escapes", st(b'{"\\u0061\\n\\"":' + one + b"}", two), "escapes in a name")
    ok("long_name", st({"n" * 5000: entry()}, two), "a name of 5,000 bytes")


def sharded_bad(out):
    good = st({"a": entry()}, struct.pack("<2f", 1, 2))
    index = lambda m: json.dumps({"metadata": {"total_size": 8}, "weight_map": m}).encode()
    name = "model.safetensors.index.json"
    for d, m, why in (
        (
            "shard_missing",
            {"a": "model-00002-of-00002.safetensors"},
            "names a file that does not exist",
        ),
        ("shard_traversal", {"a": "../st_ok_order.safetensors"}, "shard path leaves the folder"),
        ("shard_absolute", {"a": "/etc/hostname"}, "absolute shard path"),
        (
            "shard_wrong",
            {"b": "model-00001-of-00001.safetensors"},
            "tensor is not in the shard it names",
        ),
        ("shard_type", {"a": 5}, "shard name is a number"),
    ):
        put(out, f"{d}/{name}", index(m), "reject", why)
        if d in ("shard_wrong",):
            put(out, f"{d}/model-00001-of-00001.safetensors", good, "part", "shard of the case")


# ----------------------------------------------------------------------- gguf

U32, STR, ARR = 4, 8, 9


def gstr(s):
    s = s if isinstance(s, bytes) else s.encode()
    return struct.pack("<Q", len(s)) + s


def kv(key, kind, payload):
    return gstr(key) + struct.pack("<I", kind) + payload


def tensor(name, dims, kind=0, offset=0, n_dims=None):
    return (
        gstr(name)
        + struct.pack("<I", len(dims) if n_dims is None else n_dims)
        + b"".join(struct.pack("<Q", d) for d in dims)
        + struct.pack("<IQ", kind, offset)
    )


ARCH = kv("general.architecture", STR, gstr("sd1"))


def gguf(
    kvs=(ARCH,), tensors=(), data=b"", version=3, n_t=None, n_kv=None, magic=b"GGUF", align=32
):
    head = magic + struct.pack(
        "<IQQ", version, len(tensors) if n_t is None else n_t, len(kvs) if n_kv is None else n_kv
    )
    head += b"".join(kvs) + b"".join(tensors)
    return head + b"\0" * (-len(head) % align if align else 0) + data


def gguf_bad(out):
    bad = lambda name, data, why: put(out, f"gguf_{name}.gguf", data, "reject", why)
    ok = lambda name, data, why: put(out, f"gguf_ok_{name}.gguf", data, "accept", why)
    row = struct.pack("<8f", *range(8))
    good = gguf(tensors=[tensor("a", (8,))], data=row)
    bad("empty", b"", "no bytes")
    bad("magic", gguf(magic=b"GGUX"), "wrong magic")
    bad("magic_only", b"GGUF", "ends after the magic")
    bad("version0", gguf(version=0), "version 0")
    bad("version1", gguf(version=1), "version 1 (32-bit counts) is not read")
    bad("version99", gguf(version=99), "version from the future")
    bad("big_endian", b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian")
    bad("n_tensors", gguf(n_t=2**63), "2^63 tensors")
    bad("n_kv", gguf(n_kv=2**60), "2^60 keys")
    bad(
        "n_tensors_cut",
        gguf(tensors=[tensor("a", (8,))], n_t=2, data=row),
        "one tensor less than counted",
    )
    bad("string_len", gguf(kvs=[struct.pack("<Q", 2**63) + b"x"]), "key of 2^63 bytes")
    bad(
        "string_wrap",
        gguf(kvs=[struct.pack("<Q", 2**64 - 8) + b"x" * 16]),
        "key length that wraps the offset",
    )
    bad("kv_type", gguf(kvs=[kv("k", 99, b"\0" * 8)]), "unknown value type")
    bad(
        "array_count",
        gguf(kvs=[kv("k", ARR, struct.pack("<IQ", U32, 2**60))]),
        "array of 2^60 numbers",
    )
    bad(
        "array_wrap",
        gguf(kvs=[kv("k", ARR, struct.pack("<IQ", U32, 2**62))]),
        "array bytes wrap to 0",
    )
    bad(
        "array_strings",
        gguf(kvs=[kv("k", ARR, struct.pack("<IQ", STR, 2**32))]),
        "array of 2^32 strings",
    )
    nest = struct.pack("<IQ", ARR, 1) * 1000 + struct.pack("<IQ", U32, 0)
    bad("array_nested", gguf(kvs=[kv("k", ARR, nest)]), "arrays nested 1,000 deep")
    bad(
        "array_type",
        gguf(kvs=[kv("k", ARR, struct.pack("<IQ", 77, 3) + b"\0" * 64)]),
        "array of an unknown type",
    )
    bad(
        "arch_type",
        gguf(kvs=[kv("general.architecture", U32, struct.pack("<I", 7))]),
        "architecture is a number",
    )
    bad("dup_key", gguf(kvs=[ARCH, ARCH]), "the same key twice")
    bad(
        "align0",
        gguf(
            kvs=[kv("general.alignment", U32, struct.pack("<I", 0))],
            tensors=[tensor("a", (8,))],
            data=row,
        ),
        "alignment 0",
    )
    bad(
        "align3",
        gguf(
            kvs=[kv("general.alignment", U32, struct.pack("<I", 3))],
            tensors=[tensor("a", (8,))],
            data=row,
        ),
        "alignment is no power of two",
    )
    bad(
        "align_huge",
        gguf(
            kvs=[kv("general.alignment", U32, struct.pack("<I", 2**31))],
            tensors=[tensor("a", (8,))],
            data=row,
        ),
        "alignment 2^31",
    )
    bad(
        "align_type",
        gguf(kvs=[kv("general.alignment", STR, gstr("32"))], tensors=[tensor("a", (8,))], data=row),
        "alignment is a string",
    )
    bad(
        "dims_many",
        gguf(tensors=[tensor("a", (8,), n_dims=2**32 - 1)], data=row),
        "2^32 - 1 dimensions",
    )
    bad("dims5", gguf(tensors=[tensor("a", (8, 1, 1, 1, 1))], data=row), "five dimensions")
    bad(
        "dims_overflow",
        gguf(tensors=[tensor("a", (2**32, 2**32))], data=row),
        "element count wraps to 0",
    )
    bad("dims_zero", gguf(tensors=[tensor("a", (0, 8))], data=row), "a dimension of 0")
    bad("type", gguf(tensors=[tensor("a", (8,), 250)], data=row), "unknown tensor type")
    bad(
        "type_removed",
        gguf(tensors=[tensor("a", (32,), 4)], data=row * 4),
        "type 4 (Q4_2) was removed",
    )
    bad(
        "row_block",
        gguf(tensors=[tensor("a", (100, 2), 12)], data=b"\0" * 4096),
        "Q4_K row no multiple of 256",
    )
    bad(
        "offset_align",
        gguf(tensors=[tensor("a", (8,), 0, 4)], data=b"\0" * 4 + row),
        "offset not aligned",
    )
    bad("offset_end", gguf(tensors=[tensor("a", (8,), 0, 4096)], data=row), "offset past the end")
    bad(
        "offset_wrap",
        gguf(tensors=[tensor("a", (8,), 0, 2**64 - 32)], data=row),
        "offset that wraps",
    )
    bad("data_cut", good[:-5], "ends inside the tensor")
    bad(
        "overlap",
        gguf(tensors=[tensor("a", (16,)), tensor("b", (8,), 0, 32)], data=row * 2),
        "tensors overlap",
    )
    bad(
        "dup_tensor",
        gguf(tensors=[tensor("a", (8,)), tensor("a", (8,), 0, 32)], data=row * 2),
        "the same name twice",
    )
    bad("name_utf8", gguf(tensors=[tensor(b"\xff\xfe", (8,))], data=row), "invalid UTF-8 name")
    for n in (9, 20, 30, 60):
        bad(f"cut{n}", good[:n], f"cut after {n} bytes")
    ok("empty", gguf(), "no tensors")
    ok("v2", gguf(tensors=[tensor("a", (8,))], data=row, version=2), "version 2")
    ok(
        "align64",
        gguf(
            kvs=[ARCH, kv("general.alignment", U32, struct.pack("<I", 64))],
            tensors=[tensor("a", (8,))],
            data=row,
            align=64,
        ),
        "alignment 64",
    )
    q8 = struct.pack("<e32b", 0.5, *range(-16, 16))
    ok(
        "q8",
        gguf(
            tensors=[tensor("a", (32, 2), 8), tensor("b", (8, 1, 1, 1), 0, 96)],
            data=q8 * 2 + b"\0" * 28 + row,
        ),
        "Q8_0 rows (0.5 * (-16 .. 15)) and f32, shapes reversed",
    )


# -------------------------------------------------------------------- pickles

PROTO, STOP = b"\x80\x02", b"."
OS_SYSTEM = b"cos\nsystem\n"
CMD = b"X\x16\x00\x00\x00touch limn-was-exploit\x85R"  # harmless, but must never run


def torch_zip(pickle, storages=(("0", b"\0" * 16),), root="archive", **kw):
    buf = io.BytesIO()
    with zipfile.ZipFile(buf, "w", kw.get("method", zipfile.ZIP_STORED)) as z:

        def add(name, data):
            z.writestr(
                zipfile.ZipInfo(f"{root}/{name}", (1980, 1, 1, 0, 0, 0)),
                data,
                compress_type=kw.get("method", zipfile.ZIP_STORED),
            )

        if pickle is not None:
            add("data.pkl", pickle)
        for name, data in storages:
            add("data/" + name, data)
        add("version", b"3\n")
    return buf.getvalue()


def uni(s):
    return b"X" + struct.pack("<I", len(s)) + s.encode()


def num(n):
    if 0 <= n < 256:
        return b"K" + bytes([n])
    if -(2**31) <= n < 2**31:
        return b"J" + struct.pack("<i", n)
    raw = n.to_bytes((n.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def tup(*items):
    return b"(" + b"".join(items) + b"t"


def rebuild(size, stride, offset=0, storage="FloatStorage", key="0", numel=4, module="torch"):
    """The opcodes of one tensor as torch.save writes them."""
    pid = (
        tup(
            uni("storage"),
            b"c" + f"{module}\n{storage}\n".encode(),
            uni(key),
            uni("cpu"),
            num(numel),
        )
        + b"Q"
    )
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n"
        + tup(
            pid,
            num(offset),
            tup(*map(num, size)),
            tup(*map(num, stride)),
            b"\x89",
            b"ccollections\nOrderedDict\n)R",
        )
        + b"R"
    )


def state(value, name="a"):
    return PROTO + b"}" + uni(name) + value + b"s" + STOP


def pickle_bad(out):
    bad = lambda name, p, why, **kw: put(out, f"pt_{name}.pt", torch_zip(p, **kw), "reject", why)
    raw = lambda name, data, why: put(out, f"pt_{name}.pt", data, "reject", why)
    bad("os_system", PROTO + OS_SYSTEM + CMD + STOP, "calls os.system")
    bad("posix_system", PROTO + b"cposix\nsystem\n" + CMD + STOP, "calls posix.system")
    bad("eval", PROTO + b"cbuiltins\neval\n" + CMD + STOP, "calls eval")
    bad(
        "getattr",
        PROTO + b"cbuiltins\ngetattr\n" + tup(b"cos\npath\n", uni("join")) + b"R" + STOP,
        "calls getattr",
    )
    bad(
        "stack_global",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93" + CMD + STOP,
        "os.system by STACK_GLOBAL",
    )
    bad("inst", PROTO + b"(" + uni("true") + b"ios\nsystem\n" + STOP, "os.system by INST")
    bad("obj", PROTO + b"(" + OS_SYSTEM + uni("true") + b"o" + STOP, "os.system by OBJ")
    bad("newobj", PROTO + OS_SYSTEM + b")\x81" + STOP, "os.system by NEWOBJ")
    bad(
        "build",
        PROTO
        + b"ccollections\nOrderedDict\n)R"
        + b"}"
        + uni("__class__")
        + OS_SYSTEM
        + b"sb"
        + STOP,
        "sets attributes through BUILD",
    )
    bad("ext", PROTO + b"\x82\x01" + STOP, "extension registry code")
    bad("os_in_state", state(OS_SYSTEM + CMD), "the same hidden inside a state dict")
    raw("legacy_os", OS_SYSTEM + CMD + STOP, "bare pickle, no zip, protocol 0 style")
    bad(
        "huge_numel",
        state(rebuild([2**40], [1], numel=2**40)),
        "storage of 2^40 elements in 16 bytes",
    )
    bad("size_overflow", state(rebuild([2**33, 2**33], [2**33, 1])), "element count wraps")
    bad("stride_overrun", state(rebuild([2, 2], [100, 1])), "strides reach past the storage")
    bad("stride_negative", state(rebuild([2, 2], [-2, 1])), "negative stride")
    bad("offset_overrun", state(rebuild([2, 2], [2, 1], offset=3)), "storage offset past the end")
    bad("offset_negative", state(rebuild([2, 2], [2, 1], offset=-1)), "negative storage offset")
    bad("size_negative", state(rebuild([-2, 2], [2, 1])), "negative size")
    bad("rank_mismatch", state(rebuild([2, 2], [1])), "two sizes, one stride")
    bad("storage_missing", state(rebuild([2, 2], [2, 1], key="7")), "storage 7 is not in the zip")
    bad(
        "storage_short",
        state(rebuild([2, 2], [2, 1])),
        "storage holds 8 of 16 bytes",
        storages=[("0", b"\0" * 8)],
    )
    bad(
        "storage_class",
        state(rebuild([2, 2], [2, 1], storage="QInt8Storage")),
        "unknown storage class",
    )
    bad("storage_module", state(rebuild([2, 2], [2, 1], module="os")), "storage class from os")
    bad(
        "storage_path",
        state(rebuild([2, 2], [2, 1], key="../../version")),
        "storage key with a path",
    )
    bad("pid_string", state(uni("x") + b"Q"), "persistent id is a string")
    bad("pid_short", state(tup(uni("storage")) + b"Q"), "persistent id too short")
    bad(
        "rebuild_args",
        state(b"ctorch._utils\n_rebuild_tensor_v2\n" + tup(num(1)) + b"R"),
        "rebuild with one argument",
    )
    bad("self_list", PROTO + b"]q\x00h\x00a" + STOP, "a list that holds itself")
    bad("deep", PROTO + b"]" * 20000 + b"a" * 19999 + STOP, "lists nested 20,000 deep")
    bad("marks", PROTO + b"(" * 20000 + STOP, "20,000 marks")
    bad("underflow", PROTO + b"a" + STOP, "append to an empty stack")
    bad("pop_empty", PROTO + b"0" + STOP, "pop of an empty stack")
    bad("no_mark", PROTO + num(1) + b"t" + STOP, "tuple without a mark")
    bad("memo_missing", PROTO + b"h\x05" + STOP, "memo entry that was never stored")
    bad(
        "memo_huge",
        PROTO + num(1) + b"r" + struct.pack("<I", 2**32 - 1) + STOP,
        "memo index 2^32 - 1",
    )
    bad(
        "str_len",
        PROTO + b"X" + struct.pack("<I", 2**32 - 1) + b"abc" + STOP,
        "string length past the end",
    )
    bad(
        "str8_len",
        b"\x80\x04\x8d" + struct.pack("<Q", 2**63) + b"abc" + STOP,
        "8-byte string length 2^63",
    )
    bad("long4", PROTO + b"\x8b" + struct.pack("<i", -5) + STOP, "negative long length")
    bad(
        "frame",
        b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"}" + STOP,
        "frame length past the end",
    )
    bad("no_stop", PROTO + b"}", "no STOP")
    bad("opcode", PROTO + b"\xfe" + STOP, "unknown opcode")
    bad("proto", b"\x80\x63}" + STOP, "protocol 99")
    bad("not_dict", PROTO + num(5) + STOP, "the whole file is the number 5")
    bad("no_pickle", None, "zip without data.pkl")
    good = torch_zip(state(rebuild([2, 2], [2, 1])))
    raw("zip_cut", good[:-30], "zip without its end record")
    raw("zip_half", good[: len(good) // 2], "half a zip")
    end = good.rindex(b"PK\x05\x06")
    raw(
        "zip_dir_offset",
        good[: end + 16] + struct.pack("<I", 2**31) + good[end + 20 :],
        "central directory past the end",
    )
    raw(
        "zip_count",
        good[: end + 8] + struct.pack("<HH", 60000, 60000) + good[end + 12 :],
        "60,000 entries claimed",
    )
    cen = good.index(b"PK\x01\x02")
    raw(
        "zip_size",
        good[: cen + 20] + struct.pack("<II", 2**31, 2**31) + good[cen + 28 :],
        "entry size past the end",
    )
    raw(
        "zip_local",
        good[: cen + 42] + struct.pack("<I", 2**31) + good[cen + 46 :],
        "local header past the end",
    )
    raw(
        "zip_flag",
        good[: cen + 8] + struct.pack("<H", 1) + good[cen + 10 :],
        "entry marked encrypted",
    )
    bad(
        "zip_deflate",
        state(rebuild([1 << 20], [1], numel=1 << 20)),
        "deflated entries: torch stores them plain",
        storages=[("0", b"\0" * (4 << 20))],
        method=zipfile.ZIP_DEFLATED,
    )
    raw("tar", b"\0" * 512 + b"not a pickle", "neither zip nor pickle")
    raw("empty", b"", "no bytes")


def pickle_ok(out):
    """Files that must load; ok_pickles.io.safetensors holds what they contain."""
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6) / 4
    sd = collections.OrderedDict()
    sd["plain"], sd["half"], sd["bf16"] = base.clone(), base.half(), base.bfloat16()
    sd["transposed"] = base.t()  # shares a storage, strides (1, 6)
    sd["slice"] = base[1:3, 2:5]  # storage offset 8
    sd["scalar"], sd["ids"] = torch.tensor(2.5), torch.arange(5)
    sd["param"] = torch.nn.Parameter(base[0].clone())
    sd["shared_a"] = sd["shared_b"] = base[2].clone()
    sd["flag"], sd["bytes"] = torch.tensor([True, False]), torch.arange(3, dtype=torch.uint8)
    save_st(
        f"{out}/bad/ok_pickles.io.safetensors", {k: v.detach().contiguous() for k, v in sd.items()}
    )
    nested = {
        "epoch": 3,
        "global_step": 470000,
        "pytorch-lightning_version": "1.4.2",
        "state_dict": sd,
        "lr_schedulers": [{"last_epoch": 1, "_step_count": 2, "best": None, "rate": 1e-4}],
        "callbacks": {},
        "hparams": ("a", b"bytes", {"x": {1, 2}}),
    }
    for name, obj, kw, why in (
        ("zip", sd, {}, "state dict, zip"),
        ("legacy", sd, dict(_use_new_zipfile_serialization=False), "state dict, legacy format"),
        ("nested", nested, {}, "Lightning checkpoint: tensors under state_dict"),
        ("protocol4", sd, dict(pickle_protocol=4), "pickle protocol 4"),
    ):
        buf = io.BytesIO()
        torch.save(obj, buf, **kw)
        put(out, f"pt_ok_{name}.pt", buf.getvalue(), "accept", why)
    lightning = (
        PROTO
        + b"}"
        + uni("callbacks")
        + b"}"
        + b"cpytorch_lightning.callbacks.model_checkpoint\nModelCheckpoint\n"
        + b"}s"
        + b"s"
        + uni("state_dict")
        + b"}"
        + uni("a")
        + rebuild([2, 2], [2, 1])
        + b"s"
        + b"s"
        + STOP
    )
    put(
        out,
        "pt_ok_callback.pt",
        torch_zip(lightning),
        "accept",
        "as SD 1.4: an unknown class as a dictionary key, never called; tensor a of zeros loads",
    )


def main(out):
    MANIFEST.clear()
    safetensors_bad(out)
    sharded_bad(out)
    gguf_bad(out)
    pickle_bad(out)
    pickle_ok(out)
    with open(f"{out}/bad/manifest.json", "w") as f:
        json.dump(MANIFEST, f, indent=0)
        f.write("\n")
    check(out)
    print(
        "bad:",
        len(MANIFEST),
        "files",
        sum(os.path.getsize(f"{out}/bad/{m['file']}") for m in MANIFEST),
        "bytes",
    )


def check(out):
    """The manifest against the reference readers, where these are strict enough."""
    from safetensors import safe_open

    lenient = {"st_duplicate.safetensors"}  # the library takes the last one
    for m in MANIFEST:
        path = f"{out}/bad/{m['file']}"
        if m["file"].startswith("st_"):
            try:
                with safe_open(path, "pt") as f:
                    for k in f.keys():
                        f.get_tensor(k)
                got = "accept"
            except Exception:
                got = "reject"
            assert m["verdict"] in (got, "either", "part") or m["file"] in lenient, m
        if m["file"].startswith("pt_ok_") and "callback" not in m["file"]:
            torch.load(path, weights_only=not any(w in m["file"] for w in ("nested", "protocol4")))


if __name__ == "__main__":
    main(sys.argv[1])
