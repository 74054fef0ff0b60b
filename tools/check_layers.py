#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The order of the house: who may include whom, and how big things may grow.

Prints "ok NAME" or "FAIL NAME" for every check, with one line per finding, and exits 1 when one
failed. There is no exception list; generated tables are named *_table.c or *_data.c.
"""
import re
import sys
from pathlib import Path

from findings import run

ROOT = Path(__file__).resolve().parent.parent
# One set per level; a folder includes only lower levels and itself.
LEVELS = [
    {"base"},
    {"param", "tensor", "text", "image"},
    {"kernels", "media"},
    {"graph"},
    {"backend", "nn"},
    {"formats"},
    {"models", "sample"},
    {"pipeline"},
    {"job"},
    {"server", "script"},
]
# image/ may not see param/ and so on: siblings are strangers. cli sees limn.h and nothing else.
PUBLIC = {"limn.h", "limn_status.h"}
FILE_LINES, FUNCTION_LINES = 1000, 120
FORBIDDEN = re.compile(r"\b(exit|_exit|abort|printf|puts|putchar|perror|strcpy|strcat|sprintf|vsprintf"
                       r"|gets|strtok|system|popen)\s*\(")
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)
COMMENT = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def level_of(folder):
    for i, level in enumerate(LEVELS):
        if folder in level:
            return i
    return None


def sources(*folders):
    for folder in folders:
        base = ROOT / folder
        if base.is_dir():
            yield from sorted(p for p in base.rglob("*")
                              if p.suffix in (".c", ".h") and "node_modules" not in p.parts)


def code_only(text):
    """The text with comments and strings blanked, line numbers kept."""
    return COMMENT.sub(lambda m: re.sub(r"[^\n]", " ", m.group(0)), text)


def check_layers():
    for path in sources("src"):
        rel = path.relative_to(ROOT / "src")
        folder = rel.parts[0]
        here = level_of(folder)
        for m in INCLUDE.finditer(path.read_text()):
            target = m.group(1)
            if target in PUBLIC:
                continue
            there = target.split("/")[0] if "/" in target else folder
            if folder == "cli":
                if there != "cli":
                    yield f"{path}: cli includes {target}; it may include limn.h only"
                continue
            if here is None:
                yield f"{path}: folder {folder} has no place in the layer order"
                break
            if there == folder:
                continue
            other = level_of(there)
            if other is None or other >= here:
                yield f"{path}: {folder} may not include {target}"


def check_file_length():
    for path in sources("src", "include", "tests", "bench", "fuzz", "tools"):
        if path.stem.endswith(("_table", "_data")):
            continue
        n = path.read_text().count("\n")
        if n > FILE_LINES:
            yield f"{path}: {n} lines, at most {FILE_LINES}"


def check_function_length():
    for path in sources("src", "include", "tests", "bench", "fuzz", "tools"):
        start = None
        for n, line in enumerate(path.read_text().split("\n"), 1):
            if start is None and line.endswith("{") and line[:1] not in (" ", "\t", "}", "#"):
                start = n if "=" not in line and not re.match(r"(typedef|struct|enum|union|extern)\b", line) else 0
            elif line.startswith("}"):
                if start and n - start > FUNCTION_LINES:
                    yield f"{path}:{start}: function of {n - start} lines, at most {FUNCTION_LINES}"
                start = None


def check_library_manners():
    for path in sources("src"):
        if path.relative_to(ROOT / "src").parts[0] == "cli":
            continue
        code = code_only(path.read_text())
        for m in FORBIDDEN.finditer(code):
            line = code.count("\n", 0, m.start()) + 1
            yield f"{path}:{line}: {m.group(1)}() below cli"


def check_spdx():
    for path in sources("src", "include", "tests", "bench", "fuzz", "tools"):
        if not path.read_text().startswith("/* SPDX-License-Identifier: MIT */\n"):
            yield f"{path}: does not begin with the SPDX line"


def check_readmes():
    for folder in sorted(p for p in (ROOT / "src").iterdir() if p.is_dir()):
        if not (folder / "README.md").is_file():
            yield f"{folder}: has no README.md"


def check_basenames():
    seen = {}
    for path in sources("src", "include"):
        if path.name in seen:
            yield f"{path}: same name as {seen[path.name]}"
        seen[path.name] = path


CHECKS = [check_layers, check_file_length, check_function_length, check_library_manners, check_spdx,
          check_readmes, check_basenames]


if __name__ == "__main__":
    sys.exit(run(CHECKS, ROOT))
