#!/usr/bin/env python3
"""Checks the judge of tools/ask_questions and what the sets of bench/questions promise of one another; needs no
model and no package.
"""
import gzip
import hashlib
import json
import subprocess
import sys
import tempfile
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
TOOL = TOP / "tools/ask_questions"
spec = spec_from_loader("ask_questions", SourceFileLoader("ask_questions", str(TOOL)))
tool = module_from_spec(spec)
spec.loader.exec_module(tool)

KINDS = {"number", "name", "reason", "condition", "paraphrase", "yes-no", "unanswerable"}
COUNTS = {"look": (60, 20), "dev": (30, 10), "auto": (40, 0), "long": (10, 0)}  # with an answer, without one
PLAIN = [
    ("The Thirty-One  *days*", "31 days"),
    ("ten thousand, 10,000", "10000 10000"),
    ("Eleven hundred", "1100"),
    ("at 5.8.0 or 1.8.", "at 5.8.0 or 1.8"),
    ("It doesn't; it cannot", "it does not it can not"),
    ("`DEB_*_ARCH_BITS`", "deb arch bits"),
]
JUDGED = [  # kind, right, answer, whether it is right
    ("number", ["30"], "It is 130 days.", False),
    ("number", ["30"], "Thirty days.", True),
    ("name", ["Pur"], "Because of Purim.", False),
    ("number", [["401", "403"]], "401 (unauthorized) and 403.", True),
    ("number", [["401", "403"]], "Only 403.", False),
    ("yes-no", ["no", "must not"], "No, it must not.", True),
    ("yes-no", ["no", "must not"], "A package must not do so.", True),
    ("yes-no", ["yes", "may"], "No, though others may.", False),
    ("unanswerable", [], "The text does not say how old he was.", True),
    ("unanswerable", [], "That is not mentioned.", True),
    ("unanswerable", [], "He was not yet 40 years old.", False),
]
# Stands in for `fovea ask`: one answer and one span, whatever it is asked.
PROGRAM = """#!/bin/sh
printf '%s' '{"answer": "Seven.", "evidence": [{"line_start": 2, "line_end": 2}], "cost": {"prompt_tokens": 9}}'
"""


def judge():
    for text, wanted in PLAIN:
        if tool.plain(text) != wanted:
            yield f"plain({text!r}) is {tool.plain(text)!r}, not {wanted!r}"
    for kind, right, answer, wanted in JUDGED:
        if tool.is_right({"kind": kind, "right": right}, {"answer": answer}) != wanted:
            yield f"{answer!r} is judged {'wrong' if wanted else 'right'} for {kind} {right}"
    if tool.is_right({"kind": "number", "right": ["7"]}, {"answer": "7", "supported": False}):
        yield "an answer that ask itself does not stand by is judged right"
    if not tool.is_right({"kind": "unanswerable"}, {"answer": "Forty.", "supported": False}):
        yield "ask said that the text does not support an answer, and is judged wrong"


def sets():
    sources, asked = {}, {}
    for path in sorted((TOP / "bench/questions").glob("*.json")):
        name, given = path.stem, json.loads(path.read_text())
        sources[name] = {(text.get("path") or text["verses"]) for text in given["texts"].values()}
        without = sum(q["kind"] == "unanswerable" for q in given["questions"])
        if name in COUNTS and (len(given["questions"]) - without, without) != COUNTS[name]:
            yield f"{path.name}: {len(given['questions']) - without} questions and {without} without an answer, not {COUNTS[name]}"
        for q in given["questions"]:
            if q["kind"] not in KINDS or q["text"] not in given["texts"]:
                yield f"{path.name}: {q['question']}: unknown kind or text"
            if asked.setdefault((q["question"], q["text"]), name) != name:
                yield f"{path.name}: {q['question']}: asked in {asked[q['question'], q['text']]}.json too"
    for name in ("look", "auto", "long"):
        for source in sources[name] & sources["dev"]:
            yield f"dev.json: {source} is a text of {name}.json, which nothing may be tuned on"


def run():
    """A set of one question, from a package's file to the comparison with another run."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "a.html.gz").write_bytes(b"no gzip")
        (folder / "a.txt.gz").write_bytes(gzip.compress(b"not this line\nOne.\nThe week has seven days.\nnor this\n", mtime=0))
        (folder / "b.html").write_text("<title>t</title><p>One <b>two</b>\nthree</p><script>no</script><pre>a\n b</pre>")
        (folder / "ask").write_text(PROGRAM)
        (folder / "ask").chmod(0o755)
        if tool.whole_text("b", {"package": "p", "path": folder / "b.html"}) != "t\nOne two three\na\n b\n":
            yield "a page is read as " + repr(tool.whole_text("b", {"package": "p", "path": folder / "b.html"}))
        cut = b"One.\nThe week has seven days.\n"
        source = {"package": "p", "path": str(folder / "a.txt.gz"), "lines": [2, 3], "sha256": hashlib.sha256(cut).hexdigest()}
        question = {"text": "week", "kind": "number", "question": "How many days has a week?", "right": ["7"],
                    "fact": "the week has seven days", "lines": [2, 2]}

        def ended(*flags, sources=source, **changes):
            (folder / "set.json").write_text(json.dumps({"texts": {"week": sources}, "questions": [question | changes]}))
            return subprocess.run([sys.executable, TOOL, folder / "set.json", "--fovea", folder / "ask", *flags],
                                  capture_output=True, text=True)

        one = ended("--json", folder / "one.json", "-m", "model")
        if one.returncode or "right  evidence right" not in one.stdout:
            yield f"a right answer: {one.stdout}{one.stderr}"
        if json.loads((folder / "one.json").read_text())["flags"] != ["-m", "model"]:
            yield "--json does not name the flags of ask"
        two = ended("--paired", folder / "one.json", right=["8"])
        if "right: 1 before, 0 now, of 1: 0 mended, 1 broken" not in two.stdout:
            yield f"--paired: {two.stdout}{two.stderr}"
        if ended("--check").returncode != 0 or ended("--check", lines=[1, 1]).returncode != 1:
            yield "--check takes a right set for a wrong one, or a wrong one for a right one"
        for wrong in (source | {"sha256": "0"}, source | {"path": str(folder / "none")}, source | {"path": str(folder / "a.html.gz")}):
            other = ended(sources=wrong)
            if other.returncode != 1 or not other.stderr.startswith("error: week: ") or other.stderr.count("\n") != 1:
                yield f"another text is not refused in one sentence: {other.stderr}"


wrong = [*judge(), *sets(), *run()]
print("\n".join(wrong) if wrong else "questions: ok", file=sys.stderr if wrong else sys.stdout)
sys.exit(1 if wrong else 0)
