#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Form: formatting, whitespace, headers that compile alone, words that do not belong.

Same output as check_layers.py: "ok NAME" or "FAIL NAME" and one line per finding.
"""
import re
import shutil
import subprocess
import sys
from pathlib import Path

from findings import run

ROOT = Path(__file__).resolve().parent.parent
TEXT = {".c", ".h", ".md", ".py", ".sh", ".build", ".txt", ".comp", ".json"}


def tracked():
    out = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True)
    if out.returncode == 0:
        names = [n for n in out.stdout.decode().split("\0") if n]
    else:  # an unpacked release
        names = [str(p.relative_to(ROOT)) for p in ROOT.rglob("*")
                 if p.is_file() and not p.relative_to(ROOT).parts[0].startswith(("build", "out", ".git"))]
    return [ROOT / n for n in names if (ROOT / n).is_file()]


def check_format():
    tool = shutil.which("clang-format-16")
    if not tool:
        yield "clang-format-16 is not installed (make install-deps)"
        return
    files = [str(p) for p in tracked() if p.suffix in (".c", ".h")]
    out = subprocess.run([tool, "--dry-run", "-ferror-limit=1", *files], cwd=ROOT, capture_output=True)
    bad = sorted(set(re.findall(r"^([^:\n]+):\d+:\d+: (?:warning|error)", out.stderr.decode(), re.M)))
    for name in bad:
        yield f"{name}: not formatted (make format)"


def check_whitespace():
    for path in tracked():
        parts = path.relative_to(ROOT).parts
        data_of_others = {"fixtures", "golden", "corpus"} & set(parts) or parts[0] == "models"
        if path.suffix not in TEXT or (data_of_others and path.suffix != ".md"):
            continue
        data = path.read_bytes()
        if b"\r\n" in data:
            yield f"{path}: has CR line ends"
        if path.suffix in (".c", ".h", ".py") and b"\t" in data:
            yield f"{path}: has tabs"
        if re.search(rb"[ \t]\n", data) and path.suffix != ".md":
            yield f"{path}: has blanks at a line's end"
        if data and not data.endswith(b"\n"):
            yield f"{path}: does not end with a newline"
        if re.search(rb"\xe2\x80[\x8b\x8c\x8e\x8f\xaa-\xae]", data):
            yield f"{path}: has invisible characters"


def check_public_headers():
    for path in sorted((ROOT / "include").glob("*.h")):
        for lang, std in (("c", "-std=c11"), ("c++", "-std=c++14")):
            tool = "cc" if lang == "c" else "c++"
            if not shutil.which(tool):
                continue
            out = subprocess.run([tool, std, "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only",
                                  "-I", str(ROOT / "include"), "-x", lang, str(path)], capture_output=True)
            if out.returncode != 0:
                yield f"{path}: does not compile alone as {lang}: {out.stderr.decode().splitlines()[0]}"


def check_unfinished():
    words = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX|HA" r"CK)\b")
    for path in tracked():
        if path.suffix not in TEXT or path.name == "check_style.py":
            continue
        for n, line in enumerate(path.read_text(errors="replace").split("\n"), 1):
            if words.search(line):
                yield f"{path}:{n}: unfinished work is an issue, not a comment"


def check_links():
    """Relative links of the documentation lead somewhere."""
    for path in tracked():
        if path.suffix != ".md":
            continue
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text()):
            if "://" in target or target.startswith("mailto:"):
                continue
            if not (path.parent / target).exists():
                yield f"{path}: link to {target} leads nowhere"


CHECKS = [check_format, check_whitespace, check_public_headers, check_unfinished, check_links]


if __name__ == "__main__":
    sys.exit(run(CHECKS, ROOT))
