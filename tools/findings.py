# SPDX-License-Identifier: MIT
"""Runs the checks of check_layers.py and check_style.py: functions check_NAME that yield a line for each finding."""


def run(checks, root):
    """Prints "ok NAME" or "FAIL NAME" and its findings for every check; 1 when one failed."""
    failed = False
    for check in checks:
        findings = list(check())
        name = check.__name__.replace("check_", "").replace("_", " ")
        print(("FAIL " if findings else "ok ") + name)
        for text in findings:
            print("    " + text.replace(str(root) + "/", ""))
        failed = failed or bool(findings)
    return 1 if failed else 0
