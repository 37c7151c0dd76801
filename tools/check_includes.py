#!/usr/bin/env python3
"""Checks how the rooms of the library hang together.

- #include "fovea/<room>/..." lines point only along the allowed arrows (so methods/ and models/
  never see each other, and the library never sees apps/, tests/ or bench/);
- every room is in the table below and in the lists of fovea/CMakeLists.txt and tests/CMakeLists.txt,
  so that no file of it is silently left out of the build;
- every file of methods/ and models/ has a test beside it;
- papers/ is seen by apps/ alone, and a paper by no other paper;
- every paper has README.md, reproduce.cc of fewer than 150 lines, and expected.json.
"""
import pathlib
import re
import sys

BELOW_TENSOR = {"base", "kernels", "tensor"}
BELOW_MODELS = BELOW_TENSOR | {"formats", "vision", "attention"}
BELOW_STORE = BELOW_MODELS | {"methods", "models", "tokenizers"}
BELOW_ENGINE = BELOW_STORE | {"store"}
BELOW_TASKS = BELOW_ENGINE | {"engine"}
BELOW_PROBE = BELOW_TASKS | {"tasks"}
ALLOWED = {
    "base": set(),
    "kernels": {"base"},
    "tensor": {"base", "kernels"},
    "tokenizers": {"base"},
    "formats": BELOW_TENSOR | {"tokenizers"},
    "vision": BELOW_TENSOR,
    "attention": BELOW_TENSOR,
    "methods": BELOW_MODELS,
    "models": BELOW_MODELS,
    "store": BELOW_STORE,
    "engine": BELOW_ENGINE,
    "tasks": BELOW_TASKS,
    "probe": BELOW_PROBE,
    "steering": BELOW_PROBE,
    "train": BELOW_PROBE,
}
EACH_FILE_HAS_A_TEST = {"methods", "models"}
INCLUDE = re.compile(r'^\s*#\s*include\s+["<]((?:fovea|apps|tests|bench|fuzz|papers)/(?:([a-z_]+)/)?[^">]*)[">]')


def sources(folder):
    return sorted(path for path in folder.rglob("*") if path.suffix in {".h", ".cc"})


def wrong_includes(top):
    for path in sources(top / "fovea"):
        room = path.relative_to(top / "fovea").parts[0]
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = INCLUDE.match(line)
            if not match or room not in ALLOWED:
                continue
            included, other = match[1], match[2]
            if not included.startswith("fovea/"):
                yield f"{path}:{number}: the library may not include {included}"
            elif other != room and other not in ALLOWED[room]:
                allowed = ", ".join(sorted(ALLOWED[room])) or "nothing"
                yield f"{path}:{number}: {room} may not include {other} (allowed: {allowed})"


def unknown_rooms(top):
    lists = {name: (top / name / "CMakeLists.txt").read_text() for name in ("fovea", "tests")}
    for folder in sorted((top / "fovea").iterdir()):
        if not folder.is_dir() or not sources(folder):
            continue
        if folder.name not in ALLOWED:
            yield f"{folder}: this room is not in the table of tools/check_includes.py"
        for name, text in lists.items():
            if not re.search(rf"\b{folder.name}\b", text):
                yield f"{folder}: this room is not named in {name}/CMakeLists.txt"


def untested_files(top):
    for room in sorted(EACH_FILE_HAS_A_TEST):
        for path in sources(top / "fovea" / room):
            test = path.with_name(path.stem + "_test.cc")
            if path.suffix == ".cc" and not path.stem.endswith("_test") and not test.exists():
                yield f"{path}: has no test {test.name} beside it"


def wrong_includes_of_papers(top):
    for folder in ("apps", "bench", "fuzz", "papers", "tests"):
        for path in sources(top / folder):
            parts = path.relative_to(top).parts
            for number, line in enumerate(path.read_text().splitlines(), 1):
                match = INCLUDE.match(line)
                included = match[1] if match else ""
                own = ("fovea/", "papers/support/", "papers/" + parts[1] + "/")
                if folder == "papers" and included and not included.startswith(own):
                    yield f"{path}:{number}: a paper may include fovea/ and papers/support/, not {included}"
                elif folder not in ("papers", "apps") and included.startswith("papers/"):
                    yield f"{path}:{number}: only apps/ may include {included}"


def incomplete_papers(top):
    for folder in sorted((top / "papers").glob("*/")):
        if folder.name == "support":
            continue
        for name in ("README.md", "reproduce.cc", "expected.json"):
            if not (folder / name).exists():
                yield f"{folder}: has no {name}"
            elif name == "reproduce.cc" and len((folder / name).read_text().splitlines()) >= 150:
                yield f"{folder / name}: has 150 lines or more"


top = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".")
found = [*wrong_includes(top), *unknown_rooms(top), *untested_files(top),
         *wrong_includes_of_papers(top), *incomplete_papers(top)]
print("\n".join(found) if found else "rooms and includes: ok", file=sys.stderr if found else sys.stdout)
sys.exit(1 if found else 0)
