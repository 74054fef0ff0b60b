# SPDX-License-Identifier: MIT
"""What the Python tests of the server say: a line for each failure, and how it ended."""
failed = 0


def check(name, good, detail=""):
    global failed
    if not good:
        failed += 1
        print(f"FAIL {name}: {detail}")


def end():
    """The last line, and the exit status."""
    print("failed" if failed else "ok")
    return 1 if failed else 0
