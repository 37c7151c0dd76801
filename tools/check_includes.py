#!/usr/bin/env python3
"""Checks that #include "fovea/<room>/..." lines point only along the allowed arrows."""
import pathlib
import re
import sys

BELOW_TENSOR = {"base", "kernels", "tensor"}
BELOW_MODELS = BELOW_TENSOR | {"formats", "vision", "attention"}
BELOW_ENGINE = BELOW_MODELS | {"methods", "models", "tokenizers"}
ALLOWED = {
    "base": set(),
    "kernels": {"base"},
    "tensor": {"base", "kernels"},
    "tokenizers": {"base"},
    "formats": BELOW_TENSOR,
    "vision": BELOW_TENSOR,
    "attention": BELOW_TENSOR,
    "methods": BELOW_MODELS,
    "models": BELOW_MODELS,
    "engine": BELOW_ENGINE,
    "probe": BELOW_ENGINE | {"engine"},
    "steering": BELOW_ENGINE | {"engine"},
    "train": BELOW_ENGINE | {"engine"},
}
INCLUDE = re.compile(r'^\s*#\s*include\s+"fovea/([a-z_]+)/')


def violations(top):
    for path in sorted((top / "fovea").rglob("*")):
        if path.suffix not in {".h", ".cc"}:
            continue
        room = path.relative_to(top / "fovea").parts[0]
        if room not in ALLOWED:
            yield f"{path}: room {room} is not in the table of {sys.argv[0]}"
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = INCLUDE.match(line)
            if match and match[1] != room and match[1] not in ALLOWED[room]:
                allowed = ", ".join(sorted(ALLOWED[room])) or "nothing"
                yield f"{path}:{number}: {room} may not include {match[1]} (allowed: {allowed})"


found = list(violations(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".")))
print("\n".join(found) if found else "include arrows: ok", file=sys.stderr if found else sys.stdout)
sys.exit(1 if found else 0)
