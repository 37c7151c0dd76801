#!/usr/bin/env python3
"""Runs `fovea check` and `fovea show` on mutations of a GGUF file; none may crash, hang or ramble.

    tools/check_mutations.py build/fovea FILE.gguf [COUNT [SEED]]

Each run has 1 GB of address space and 10 seconds, and must end with 0, or with 65 and one
sentence on stderr. A file that broke this is kept beside the working directory and named.
"""
import json
import pathlib
import resource
import subprocess
import sys
import tempfile

import mutate_gguf

LIMIT_BYTES, LIMIT_SECONDS = 1 << 30, 10


def limit_memory():
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))


def complaint(fovea, command, path, limited):
    """Why the run is not as it should be, or None; and its exit code."""
    try:
        done = subprocess.run([fovea, command, "--json", path], stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT_SECONDS,
                              preexec_fn=limit_memory if limited else None)
    except subprocess.TimeoutExpired:
        return f"more than {LIMIT_SECONDS} s", None
    errors = done.stderr.decode(errors="replace")
    if done.returncode not in (0, 65):
        return f"exit code {done.returncode}: {errors[:300]}", done.returncode
    said = [line for line in errors.splitlines() if not line.startswith("fovea: warning: ")]
    if len(said) != (done.returncode == 65) or any(not line.startswith("fovea: ") for line in said):
        return f"exit code {done.returncode} with {errors[:300]!r}", done.returncode
    if any(not c.isprintable() for c in errors.replace("\n", "")) or len(errors) > 5000:
        return f"unescaped or endless text: {errors[:300]!r}", done.returncode
    if command == "check" or done.returncode == 0:
        try:
            document = json.loads(done.stdout)
        except ValueError as error:
            return f"stdout is not JSON: {error}", done.returncode
        if command == "check" and document["ok"] != (done.returncode == 0):
            return "ok and exit code disagree", done.returncode
    return None, done.returncode


def main():
    fovea, source = sys.argv[1:3]
    count, seed = int(sys.argv[3]) if len(sys.argv) > 3 else 300, int(sys.argv[4]) if len(sys.argv) > 4 else 1
    # A sanitizer reserves terabytes of address space: then only its own checks hold.
    limited = b"__asan_init" not in pathlib.Path(fovea).read_bytes() and b"__tsan_init" not in pathlib.Path(fovea).read_bytes()
    failures, codes = 0, {}
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "mutated.gguf"
        for name, blob in mutate_gguf.mutations(pathlib.Path(source).read_bytes(), count, seed):
            path.write_bytes(blob)
            for command in ("check", "show"):
                why, code = complaint(fovea, command, str(path), limited)
                codes[command, code] = codes.get((command, code), 0) + 1
                if why:
                    failures += 1
                    kept = pathlib.Path(f"failed-{name}.gguf")
                    kept.write_bytes(blob)
                    print(f"{kept}: fovea {command}: {why}")
    print(", ".join(f"{command} ended with {code}: {n}" for (command, code), n in sorted(codes.items(), key=str)))
    print(f"{2 * count - failures} passed, {failures} failed")
    sys.exit(failures > 0 or codes.get(("check", 65), 0) < count // 2)  # a check that refuses nothing checks nothing


if __name__ == "__main__":
    main()
