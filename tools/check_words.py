#!/usr/bin/env python3
"""Checks that no tracked text file names a folder of somebody's machine or a package registry, or holds an open merge."""
import re
import subprocess
import sys

# Each is written so that it does not match itself.
WRONG = re.compile(
    r"(?<![\w.~}/-])/(?:w[o]rk|[o]pt|r[o]ot|t[m]p|h[o]me/\w+)/[\w.]"
    r"|^(?:<{7}|>{7}) "
    r"|\b(?:py[p]i|files\.pythonh[o]sted|registry\.npmj[s]|pr[o]xy\.golang|index\.crate[s])\.(?:org|io)\b"
)

found = []
for path in subprocess.check_output(["git", "ls-files", "-z"], text=True).split("\0"):
    if not path or path.startswith(("tests/fuzz/", "tests/golden/")):
        continue
    try:
        text = open(path, encoding="utf-8").read()
    except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
        continue
    for number, line in enumerate(text.splitlines(), 1):
        if match := WRONG.search(line):
            found.append(f"{path}:{number}: {match[0]}: a path or host of one machine, or an open merge")
print("\n".join(found) if found else "machine paths: ok", file=sys.stderr if found else sys.stdout)
sys.exit(1 if found else 0)
