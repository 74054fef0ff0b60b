#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Does clang take what gcc takes? Reads every C source of a build (its compile_commands.json) and the fuzz targets with
clang, with the flags and warnings of the build and warnings as errors. Kernels of x86 are compiled with optimisation, since what
broke there was the making of code (an unroll pragma not followed, a crash); of the rest only the syntax and the types are checked.

    python3 tools/check_clang.py [BUILD] [--jobs N]

CLANG names another compiler. Prints "ok clang" or "FAIL clang" and what clang says of each file; exit status 1 when one failed,
or when there is nothing to check.
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
FUZZ_FLAGS_OF = "src/server/sockets.c"  # fuzz targets include what the server may
EMULATED = "-DLIMN_SIMDE"  # for tests only, and another project's header: gcc's business


def flags_of(entry):
    """The flags of a compile command: without compiler, source, output and what writes dependencies."""
    flags, skip = [], False
    for word in shlex.split(entry["command"]):
        if skip:
            skip = False
        elif word in ("-o", "-MQ", "-MF", "-c"):
            skip = True
        elif word.startswith("-") and word not in ("-MD", "-Winvalid-pch"):
            flags.append(word)
    return flags


def units(build):
    """(source, folder to be in, flags) of everything to check."""
    listed = json.loads((build / "compile_commands.json").read_text())
    found, fuzz_flags = {}, None
    for entry in listed:
        source = (pathlib.Path(entry["directory"]) / entry["file"]).resolve()
        flags = flags_of(entry)
        if source.suffix != ".c" or EMULATED in flags:
            continue
        found.setdefault(source, (entry["directory"], flags))
        if source == ROOT / FUZZ_FLAGS_OF:
            fuzz_flags = (entry["directory"], flags)
    if not fuzz_flags:
        sys.exit("check_clang: %s/compile_commands.json has no %s" % (build, FUZZ_FLAGS_OF))
    for source in sorted((ROOT / "fuzz").glob("*.c")):
        found[source] = (fuzz_flags[0], [f for f in fuzz_flags[1] if f != "-Wmissing-prototypes"])
    return [(source, *how) for source, how in sorted(found.items())]


def check(clang, source, folder, flags):
    kernel = source.parent == ROOT / "src/kernels/x86"
    work = ["-c", "-o", os.devnull] if kernel else ["-fsyntax-only"]
    ran = subprocess.run([clang, *flags, "-Werror", *work, str(source)], cwd=folder, capture_output=True, text=True)
    return ran.returncode, ran.stderr


def main():
    args = argparse.ArgumentParser(description="reads every source with clang")
    args.add_argument("build", nargs="?", default="build")
    args.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    args = args.parse_args()
    clang = os.environ.get("CLANG") or shutil.which("clang-16") or shutil.which("clang")
    if not clang:
        sys.exit("FAIL clang\n    no clang-16 and no clang (make install-deps)")
    todo = units(pathlib.Path(args.build).resolve())
    bad = []
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for (source, *_), (status, said) in zip(todo, pool.map(lambda u: check(clang, *u), todo)):
            if status != 0:
                bad.append("    %s\n%s" % (source.relative_to(ROOT), said))
    print("FAIL clang" if bad else "ok clang: %d files" % len(todo))
    print("".join(bad), end="")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
