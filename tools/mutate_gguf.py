#!/usr/bin/env python3
"""Damages small GGUF files in many ways; `fovea check` must accept or refuse each (exit 0 or 65), in time.

  tools/mutate_gguf.py [--program build-asan/fovea] [--count 2000] [--seed 1] [FILE.gguf ...]

A mutant that crashes, hangs or ends with another code is kept in build-mutants/ and named.
"""
import argparse
import concurrent.futures
import os
import pathlib
import random
import struct
import subprocess
import sys

ODD_NUMBERS = [0, 1, 2, 0x7F, 0xFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]


def mutant(original, rng):
    """One damaged copy; most of the damage is done to the first tenth, where the metadata is."""
    data = bytearray(original)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        at = rng.randrange(len(data) if rng.random() < 0.2 else max(64, len(data) // 10)) % len(data)
        kind = rng.randrange(6)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at] = rng.randrange(256)
        elif kind == 2:
            data[at : at + 8] = struct.pack("<Q", rng.choice(ODD_NUMBERS))
        elif kind == 3:
            data[at : at + 4] = struct.pack("<I", rng.choice(ODD_NUMBERS) & 0xFFFFFFFF)
        elif kind == 4:
            del data[at : at + rng.randrange(1, 65)]
        else:
            data[at:at] = data[at : at + rng.randrange(1, 65)]
        if not data:
            return bytes(original[:1])
    return bytes(data[: rng.randrange(1, len(data) + 1)] if rng.random() < 0.1 else data)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=pathlib.Path)
    parser.add_argument("--program", default="build-asan/fovea")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=20)
    args = parser.parse_args()
    top = pathlib.Path(__file__).resolve().parent.parent
    files = args.files or sorted((top / "tests/data").glob("*.gguf"))
    if not files:
        sys.exit("mutate_gguf: no file in tests/data, and none named")
    help_text = subprocess.run([args.program, "--help"], capture_output=True, text=True)
    if "check" not in help_text.stdout:
        sys.exit(f"mutate_gguf: {args.program} has no `check` command")
    folder = top / "build-mutants"
    folder.mkdir(exist_ok=True)
    originals = [path.read_bytes() for path in files]

    def one(number):
        which = number % len(files)
        path = folder / f"{files[which].stem}-{args.seed}-{number}.gguf"
        path.write_bytes(mutant(originals[which], random.Random(args.seed * 1_000_003 + number)))
        try:
            done = subprocess.run([args.program, "check", str(path)], capture_output=True, text=True,
                                  timeout=args.timeout, errors="replace")
            said = done.stderr.strip().splitlines() or [""]
            problem = None if done.returncode in (0, 65) else f"exit {done.returncode}: {said[0]}"
            accepted = done.returncode == 0
        except subprocess.TimeoutExpired:
            problem, accepted = f"no answer after {args.timeout} s", False
        if problem is None:
            path.unlink()
        return problem and f"{path}: {problem}", accepted

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as workers:
        results = list(workers.map(one, range(args.count)))
    problems = [problem for problem, _ in results if problem]
    accepted = sum(ok for _, ok in results)
    print(f"{args.count} mutants: {accepted} accepted, {args.count - accepted - len(problems)} refused, "
          f"{len(problems)} wrong")
    for problem in problems:
        print(problem, file=sys.stderr)
    sys.exit(1 if problems else 0)


main()
