#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Packs a folder of web files into the program.

    embed_files.py FOLDER OUT.c OUT.bin OUT.d

OUT.bin has the bytes of every file, plain, gzip and (with the brotli program) brotli, a packed form
only where it is smaller; OUT.c includes it and lists where each lies. The same input gives the same
output. A folder that is not there gives an empty list.
"""
import gzip
import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

MIME = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8",
        ".mjs": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
        ".json": "application/json", ".svg": "image/svg+xml", ".png": "image/png",
        ".jpg": "image/jpeg", ".webp": "image/webp", ".ico": "image/x-icon",
        ".woff2": "font/woff2", ".txt": "text/plain; charset=utf-8", ".wasm": "application/wasm",
        ".webmanifest": "application/manifest+json", ".map": "application/json"}
PACKED = {".html", ".js", ".mjs", ".css", ".json", ".svg", ".txt", ".wasm", ".webmanifest", ".map"}


def brotli(data):
    tool = shutil.which("brotli")
    if not tool:
        return b""
    return subprocess.run([tool, "--best", "--stdout", "-"], input=data, capture_output=True,
                          check=True).stdout


def c_string(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def main():
    folder, out_c, out_bin = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    blob, rows = bytearray(), []
    files = sorted(p for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else []
    for path in files:
        name = "/" + path.relative_to(folder).as_posix()
        if path.suffix not in MIME:
            sys.exit(f"embed_files: {name}: no type is known for {path.suffix or 'this name'}")
        data = path.read_bytes()
        parts = [data, b"", b""]
        if path.suffix in PACKED and len(data) > 256:
            parts[1:] = [gzip.compress(data, 9, mtime=0), brotli(data)]
            parts[1:] = [p if len(p) < len(data) else b"" for p in parts[1:]]
        places = []
        for part in parts:
            places.append((len(blob), len(part)))
            blob += part
        tag = c_string('"' + hashlib.sha256(data).hexdigest()[:24] + '"')
        hashed = 1 if re.search(r"[.-][A-Za-z0-9_-]{8,}\.[a-z0-9]+$", name) else 0
        spans = ", ".join("{%d, %d}" % p for p in places)
        rows.append(f"    {{{c_string(name)}, {c_string(MIME[path.suffix])}, {tag}, {hashed}, {spans}}},")
    seen = [folder] if folder.is_dir() else []
    seen += sorted(p for p in folder.rglob("*")) if folder.is_dir() else []
    Path(sys.argv[4]).write_text(f"{out_c}: " + " ".join(str(p).replace(" ", "\\ ") for p in seen) + "\n")
    out_bin.write_bytes(bytes(blob) or b"\0")
    out_c.write_text("/* SPDX-License-Identifier: MIT */\n/* Made by tools/embed_files.py. */\n"
                     '#include "server/static_files.h"\n\n'
                     "const limn_static_file limn_static_files[] = {\n" + "\n".join(rows) +
                     ("\n" if rows else "") +
                     "    {0, 0, 0, 0, {0, 0}, {0, 0}, {0, 0}},\n};\n\n"
                     '__asm__(".section .rodata\\n.global limn_static_bytes\\n"\n'
                     '        ".type limn_static_bytes, @object\\nlimn_static_bytes:\\n"\n'
                     f'        ".incbin \\"{out_bin.resolve()}\\"\\n.byte 0\\n.previous\\n");\n')


if __name__ == "__main__":
    main()
