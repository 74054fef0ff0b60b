#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The pages that the program writes (what shells complete, the manual), and its systemd unit.

usage: test_pages.py LIMN limn.service

Each shell reads what limn completion wrote and completes typed lines: bash runs the function that its `complete` names, fish its own `complete -C`, zsh a whole
interactive shell in a terminal. Values that are offered for lists of the engine must be ones that
the program takes. Of the manual mandoc and groff have nothing to say, of the unit systemd-analyze.
What is not installed is named and left out.
"""

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time

LIMN = os.path.abspath(sys.argv[1])
UNIT = sys.argv[2]
SECONDS = float(os.environ.get("LIMN_TEST_SECONDS", "120"))
failed = 0

# what is typed, what must be offered, what must not
LINES = [
    ("limn dr", {"draw"}, {"serve"}),
    ("limn se", {"see", "serve"}, {"draw"}),
    ("limn draw --sam", {"--sampler"}, {"--schedule"}),
    ("limn draw --no-meta", {"--no-metadata"}, set()),
    ("limn draw --sampler eul", {"euler", "euler_a"}, {"heun"}),
    ("limn draw -S dpm++_2m_", {"dpm++_2m_sde"}, {"dpm++_2m"}),
    ("limn draw --format ", {"png", "jpeg", "webp"}, {"zfile.txt"}),
    ("limn draw --width ", set(), {"zfile.txt"}),
    ("limn draw --init zf", {"zfile.txt"}, set()),
    ("limn see --task cap", {"caption"}, {"ocr"}),
    ("limn see zf", {"zfile.txt"}, set()),
    ("limn serve --compat ", {"a1111", "sdnext"}, set()),
    ("limn serve --queue-d", {"--queue-depth"}, {"--steps"}),
    ("limn key ", {"create", "list", "revoke"}, set()),
    ("limn completion z", {"zsh"}, {"bash"}),
]


def check(what, good, seen=""):
    global failed
    failed += not good
    print(f"{'ok  ' if good else 'FAIL'} {what}{'' if good else f': {seen}'}")


def check_line(shell, line, offered):
    _, wanted, unwanted = next(row for row in LINES if row[0] == line)
    check(f"{shell}: {line!r}", wanted <= offered and not unwanted & offered, sorted(offered))


def run(command, **more):
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, **more)


# ---- bash ----
BASH = """
source "$1"
[[ $(complete -p limn) =~ -F\\ ([^ ]+) ]] || exit 3
COMP_LINE=$2 COMP_POINT=${#2}
# as readline cuts it
read -ra COMP_WORDS <<<"${2//=/ = }"
[[ $2 == *' ' ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
"${BASH_REMATCH[1]}" limn "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def bash_offers(script, line, dir):
    p = run(["bash", "--norc", "-c", BASH, "bash", script, line], cwd=dir)
    check(f"bash reads it ({line!r})", p.returncode == 0 and not p.stderr, p.stderr)
    return set(p.stdout.split())


def bash(script, dir):
    for line, _, _ in LINES:
        check_line("bash", line, bash_offers(script, line, dir))
    offered = bash_offers(script, "limn draw --sampler=eul", dir)
    check("bash: --name=value", offered == {"euler", "euler_a"}, offered)


# ---- fish ----
def fish(script, dir):
    home = dict(os.environ, HOME=dir, XDG_CONFIG_HOME=dir, XDG_DATA_HOME=dir)
    for line, _, _ in LINES:
        p = run(["fish", "--no-config", "-c", 'source $argv[1]; complete -C "$argv[2]"', script, line], cwd=dir, env=home)
        check(f"fish reads it ({line!r})", p.returncode == 0 and not p.stderr, p.stderr)
        check_line("fish", line, {row.split("\t")[0] for row in p.stdout.splitlines()})


# ---- zsh ----
class Terminal:
    """A shell in a terminal; waits for words on its screen."""

    def __init__(self, command, dir):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(dir)
            os.environ.update(TERM="dumb", HOME=dir, ZDOTDIR=dir, COLUMNS="1000", LINES="500")
            os.execvp(command[0], command)
        self.text = ""

    def until(self, pattern):
        end = time.monotonic() + SECONDS
        while not (found := re.search(pattern, self.text, re.S)):
            ready, _, _ = select.select([self.fd], [], [], max(0, end - time.monotonic()))
            if not ready:
                raise TimeoutError(f"{pattern!r} did not come: {self.text[-400:]!r}")
            self.text += os.read(self.fd, 65536).decode(errors="replace")
        self.text = self.text[found.end():]
        return found

    def say(self, text):
        os.write(self.fd, text.encode())

    def close(self):
        os.close(self.fd)
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)


def zsh(script, dir):
    functions = os.path.join(dir, "functions")
    os.mkdir(functions)
    shutil.copy(script, os.path.join(functions, "_limn"))  # as the package installs it
    t = Terminal(["zsh", "-f", "-i"], dir)
    try:
        t.say("PS1='at''> '; stty -echo cols 1000 rows 500; setopt noalwayslastprompt nobeep\n")
        t.until("at> ")
        t.say("fpath=($PWD/functions $fpath); autoload -Uz compinit; compinit -u -D; zstyle ':completion:*' list-prompt ''\n")
        t.until("at> ")
        # what is offered is written down instead of shown
        t.say("compadd() { local -a got; builtin compadd -O got \"$@\"; print -rl -- $got >>$OFFERS; builtin compadd \"$@\"; }\n")
        t.until("at> ")
        for i, (line, _, _) in enumerate(LINES):
            offers = os.path.join(dir, f"offers{i}")
            open(offers, "w").close()
            t.say(f"OFFERS={offers}\n")
            t.until("at> ")
            # listed, not inserted; then the line is thrown away
            t.say(line + "\x04\x15print done''{i}\n".replace("{i}", str(i)))
            t.until(f"done{i}.*?at> ")
            with open(offers) as f:
                check_line("zsh", line, set(f.read().split()))
    finally:
        t.close()


# ---- values ----
def values(script, dir):
    """The words for lists of the engine are names that the program knows."""
    with open(script) as f:
        text = f.read()
    draw = text[text.index("    draw)"):text.index("    redo)")]
    lists = [("draw", "sampler", re.search(r'--sampler\) words="([^"]+)"', draw)[1].split()),
             ("draw", "schedule", re.search(r'--schedule\) words="([^"]+)"', draw)[1].split())]
    for command, option, words in lists:
        check(f"{option}: several words", len(words) > 10, words)
        for word in words:
            # the model is what it stumbles over, after the option
            p = run([LIMN, command, "x", f"--{option}", word, "-m", "/dev/null"], cwd=dir)
            check(f"--{option} {word} is known", p.returncode != 0 and "unknown" not in p.stderr, p.stderr)
        p = run([LIMN, command, "x", f"--{option}", words[0] + "x", "-m", "/dev/null"], cwd=dir)
        check(f"... and {words[0]}x is not", "unknown" in p.stderr, p.stderr)


# ---- the manual ----
def manual(dir):
    page = os.path.join(dir, "limn.1")
    with open(page, "w") as f:
        subprocess.run([LIMN, "manual"], stdout=f, check=True, timeout=SECONDS)
    for command in [["mandoc", "-Tlint", "-Wstyle"], ["groff", "-mdoc", "-Tascii", "-ww", "-z"]]:
        if not shutil.which(command[0]):
            print(f"SKIP {command[0]} is not installed")
            continue
        p = run([*command, page])
        # what a release would have from its version control
        said = [row for row in (p.stdout + p.stderr).splitlines() if "$Mdocdate$" not in row]
        check(f"{' '.join(command)} of the manual", not said, said[:5])


# ---- the unit ----
def unit(dir):
    if not shutil.which("systemd-analyze"):
        return print("SKIP systemd-analyze is not installed")
    path = os.path.join(dir, "limn.service")
    with open(UNIT) as f, open(path, "w") as out:
        out.write(f.read().replace("/usr/bin/limn", LIMN))
    os.mkdir(os.path.join(dir, "man1"))  # it asks man for limn(1)
    shutil.copy(os.path.join(dir, "limn.1"), os.path.join(dir, "man1"))
    p = run(["systemd-analyze", "verify", path], env=dict(os.environ, MANPATH=dir))
    check("systemd-analyze verify", p.returncode == 0 and "limn.service" not in p.stderr, p.stderr)
    # 0 to 100, less is better
    p = run(["systemd-analyze", "security", "--offline=true", "--threshold=20", path])
    check("systemd-analyze security", p.returncode == 0, p.stdout[-300:])


def main():
    with tempfile.TemporaryDirectory() as dir:
        open(os.path.join(dir, "zfile.txt"), "w").close()
        for shell, test in [("bash", bash), ("fish", fish), ("zsh", zsh)]:
            script = os.path.join(dir, f"complete.{shell}")
            with open(script, "w") as f:
                subprocess.run([LIMN, "completion", shell], stdout=f, check=True, timeout=SECONDS)
            if shutil.which(shell):
                test(script, dir)
            else:
                print(f"SKIP {shell} is not installed")
        manual(dir)
        unit(dir)
        values(os.path.join(dir, "complete.bash"), dir)
    print(f"{failed} failed")
    sys.exit(1 if failed else 0)


main()
