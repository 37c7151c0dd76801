#!/usr/bin/env python3
"""The form in which bench/results/ keeps what was measured, one file per kind of machine and benchmark.

  python3 bench/result.py -o bench/results/zen5-roofline-avx512.json -- build/bench_roofline --json

runs a benchmark that prints JSON and keeps it: `benchmark`, `kind` and `machine`, `commit`, `command`, `models` (name to
sha256, of the .gguf files that the command names), `date`, and `rows`, a list of flat objects. bench/peers.py writes the
same form. tools/speed_tables.py makes docs/speed-tables.md of all of them.
"""
import argparse
import hashlib
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FLAGS = ("avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8")


def processor():
    text = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    return {k.strip(): v.strip() for k, v in (line.split(":", 1) for line in text.splitlines() if ":" in line)}


def machine():
    info = processor()
    flags = info.get("flags", "").split()
    return {"cpu": info.get("model name", platform.machine()), "family": info.get("cpu family", ""),
            "cores": os.cpu_count(), "isa": [f for f in FLAGS if f in flags], "kernel": platform.release()}


def kind():
    """A short name for machines on which the same code is fast: zen3, zen4, zen5, xeon, xeon-avx2, ..."""
    info = processor()
    flags, family = info.get("flags", "").split(), info.get("cpu family", "")
    if info.get("vendor_id") == "AuthenticAMD":
        if family == "26":
            return "zen5"
        return {"25": "zen4" if "avx512f" in flags else "zen3", "23": "zen2"}.get(family, f"amd{family}")
    if info.get("vendor_id") == "GenuineIntel":
        return "xeon" if "avx512_vnni" in flags else "intel-avx2"
    return platform.machine()


def commit():
    """The commit of this checkout, with a + where tracked files differ from it; None outside of one."""
    def git(*words):
        done = subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else None
    name = git("rev-parse", "--short=7", "HEAD")
    return name and name + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")


def sha256(path):
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def short(word):
    """A word of a command without the folders of this machine."""
    path = Path(word)
    if not path.is_absolute():
        return str(word)
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


def head(benchmark, command, models=()):
    return {"benchmark": benchmark, "kind": kind(), "machine": machine(), "commit": commit(),
            "command": " ".join(shlex.quote(short(word)) for word in command),
            "models": {Path(m).stem: sha256(m) for m in models},
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}


def keep(path, result):
    """Written beside and moved: an interruption leaves the last whole result."""
    part = Path(str(path) + ".part")
    part.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    part.replace(path)


def rows_of(answer):
    """Flat rows of what the programs print."""
    if isinstance(answer, list):  # bench_roofline: an object per instruction set
        rows = []
        for part in answer:
            rows += [{"isa": part["isa"], **row} for row in part["limits"]]
            rows += [{"isa": part["isa"], **row} for row in part.get("kernels", [])]
        return rows
    return answer["rows"] if "rows" in answer else [answer]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--title", help="a heading for its table")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- and a program that prints JSON")
    args = parser.parse_args()
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        parser.error("no command to run")
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        return done.returncode
    name = re.sub("^bench_", "", Path(command[0]).name)
    settings = [f"{key}={os.environ[key]}" for key in ("FOVEA_ISA",) if key in os.environ]
    result = head(name, command, [w for w in command if w.endswith(".gguf") and Path(w).is_file()])
    result["command"] = " ".join(settings + [result["command"]])
    if args.title:
        result["title"] = args.title
    keep(args.output, {**result, "rows": rows_of(json.loads(done.stdout))})
    return 0


if __name__ == "__main__":
    sys.exit(main())
