#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Command-line cases: run_cases.py PROGRAM CASES.txt [FILTER], output in TAP for meson.

A case is a line "# name", a command line "$ ...", and what must come out: "exit N", then lines of
stdout ("> ") and of stderr ("! "); * stands for anything, "within S" limits the processor time in
seconds (10 unless it is said; a busy machine changes nothing), "no FILE" and "has FILE" look for a
file afterwards. Each case runs in an empty folder with limn in PATH. LIMN_TEST_SECONDS is when a
case that does not end is given up.
"""
import fnmatch
import os
import re
import resource
import subprocess
import sys
import tempfile

DEADLINE = float(os.environ.get("LIMN_TEST_SECONDS", "300"))


def read_cases(path):
    cases = []
    for line in open(path, encoding="utf-8"):
        line = line.rstrip("\n")
        if line.startswith("# "):
            cases.append({"name": line[2:], "cmd": [], "exit": 0, "out": [], "err": [], "within": 10, "no": [],
                          "has": []})
        elif line.startswith("$ "):
            cases[-1]["cmd"].append(line[2:])
        elif line.startswith(">"):
            cases[-1]["out"].append(line[2:])
        elif line.startswith("!"):
            cases[-1]["err"].append(line[2:])
        elif line:
            key, value = line.split(" ", 1)
            if key in ("no", "has"):
                cases[-1][key].append(value)
            else:
                cases[-1][key] = float(value) if key == "within" else int(value)
    return cases


def same(got, want):
    """Lines match; a want line of "..." stands for any number of lines."""
    if not want:
        return not got
    if want[0] == "...":
        return any(same(got[i:], want[1:]) for i in range(len(got) + 1))
    pattern = want[0].replace("[", "[[]")
    return bool(got) and fnmatch.fnmatchcase(got[0], pattern) and same(got[1:], want[1:])


def processor_seconds():
    """Of all children that have ended, theirs included."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(case, program):
    problems = []
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(os.path.join(folder, ".bin"))
        os.symlink(os.path.abspath(program), os.path.join(folder, ".bin", "limn"))
        env = dict(os.environ, PATH=os.path.join(folder, ".bin") + ":" + os.environ["PATH"], LC_ALL="C",
                   TERM="dumb")
        before = processor_seconds()
        try:
            p = subprocess.run(["sh", "-c", "\n".join(case["cmd"])], cwd=folder, env=env, capture_output=True,
                               timeout=DEADLINE)
        except subprocess.TimeoutExpired as e:
            return [f"did not end; stdout {e.stdout}, stderr {e.stderr}"]
        took = processor_seconds() - before
        if p.returncode != case["exit"]:
            problems.append(f"exit {p.returncode}, not {case['exit']}")
        for kind, data in (("out", p.stdout), ("err", p.stderr)):
            got = data.decode(errors="replace").splitlines()
            if not same(got, case[kind]):
                problems.append(f"std{kind}:\n  " + "\n  ".join(got) + "\nwanted:\n  " + "\n  ".join(case[kind]))
        if took > case["within"]:
            problems.append(f"took {took:.1f} s of processor time, {case['within']:g} are allowed")
        files = set(os.listdir(folder)) - {".bin"}
        problems += [f"{n} is there" for n in case["no"] if fnmatch.filter(files, n)]
        problems += [f"{n} is not there" for n in case["has"] if not fnmatch.filter(files, n)]
        if any(re.match(r"\.limn-", n) for n in files):
            problems.append("a temporary file is left")
    return problems


def main():
    program, path = sys.argv[1:3]
    cases = [c for c in read_cases(path) if len(sys.argv) < 4 or sys.argv[3] in c["name"]]
    print(f"1..{len(cases)}")
    failed = 0
    for i, case in enumerate(cases, 1):
        problems = run(case, program)
        print(f"{'not ok' if problems else 'ok'} {i} - {case['name']}")
        for text in problems:
            print("# " + text.replace("\n", "\n# "))
        failed += bool(problems)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
