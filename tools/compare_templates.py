"""Renders many templates here and in jinja2 and prints where they differ: python3 tools/compare_templates.py
PROGRAM [-n N] [--seed S]. PROGRAM reads {"template", "context"} a line and writes {"text"} or {"error"} a line
(build it: cmake --build --preset release --target render_templates). With --folder DIR: the *.jinja files there
instead, on the conversations of template_chats.py, and that they take nothing which these spell for their own. Needs jinja2."""
import argparse
import glob
import json
import os
import random
import subprocess

import template_cases as cases
import template_chats as chats


FOLDED = ("is not subscriptable", "unhashable type: 'slice'")


class Maker:
    """Small templates out of a grammar: most are valid, some are not."""

    def __init__(self, seed):
        self.r = random.Random(seed)
        self.names = ["n", "x", "s", "words", "nothing", "d", "people", "messages", "missing", "m", "i", "tools"]

    def pick(self, *choices):
        return self.r.choice(choices)

    def text(self):
        return "".join(self.pick("a", " ", "\n", "  ", "b", "\u00e9", "{", "}", "<|x|>", "\n\n", "\t") for _ in range(self.r.randint(0, 4)))

    def string(self):
        return self.pick("''", "'a'", "\"b\"", "' c '", "'a,b'", "'\\n'", "'role'", "'\u00e9\u4e16'", "'x\\ty'", "'%s'", "'{}'", "'Ab cD'")

    def atom(self, depth):
        r = self.r.random()
        if r < 0.3:
            return self.pick(*self.names)
        if r < 0.45:
            return str(self.r.randint(0, 9))
        if r < 0.6:
            return self.string()
        if r < 0.68:
            return self.pick("true", "false", "none", "1.5", "0.1", "-2", "[]", "{}", "()")
        if depth <= 0:
            return self.pick("n", "s", "words", "1", "'q'")
        if r < 0.76:
            return "[" + ", ".join(self.expr(depth - 1) for _ in range(self.r.randint(0, 3))) + "]"
        if r < 0.8:
            return "{" + ", ".join(f"{self.string()}: {self.expr(depth - 1)}" for _ in range(self.r.randint(0, 2))) + "}"
        if r < 0.83:
            return "(" + self.expr(depth - 1) + ", " + self.expr(depth - 1) + ")"
        return "(" + self.expr(depth - 1) + ")"

    def postfix(self, depth):
        e = self.atom(depth)
        for _ in range(self.r.randint(0, 2)):
            r = self.r.random()
            if r < 0.25:
                e += "." + self.pick("role", "content", "name", "age", "a", "items", "zz", "at", "k")
            elif r < 0.45:
                e += "[" + self.pick("0", "-1", "1", "'role'", "'a'", "n", "1:", ":-1", "::2", "::-1", "1:3", "9") + "]"
            elif r < 0.65:
                e += self.pick(".upper()", ".strip()", ".split()", ".split(',')", ".items()", ".keys()", ".get('a')", ".title()", ".lstrip('a')",
                               ".startswith('a')", ".endswith('b')", ".replace('a', 'z')", ".values()", ".count('a')", ".rstrip()", ".splitlines()",
                               ".join(['p', 'q'])", ".find('b')", ".isupper()", ".capitalize()", ".rsplit(None, 1)", ".center(9)", ".zfill(4)")
        return e

    def expr(self, depth):
        r = self.r.random()
        if depth <= 0 or r < 0.3:
            return self.postfix(depth)
        if r < 0.5:
            op = self.pick("+", "-", "*", "/", "//", "%", "~", "~", "==", "!=", "<", ">=", "and", "or", "in", "not in")
            return f"{self.expr(depth - 1)} {op} {self.expr(depth - 1)}"
        if r < 0.56:
            return "not " + self.expr(depth - 1)
        if r < 0.6:
            return "-" + self.postfix(depth - 1)
        if r < 0.66:
            return f"{self.expr(depth - 1)} if {self.expr(depth - 1)}" + (f" else {self.expr(depth - 1)}" if self.r.random() < 0.8 else "")
        if r < 0.74:
            test = self.pick("defined", "undefined", "none", "string", "mapping", "sequence", "iterable", "number", "integer", "float", "boolean",
                             "true", "false", "odd", "even", "eq 3", "ne('a')", "in [1, 'a']", "gt 2", "divisibleby 2", "callable", "lower", "upper", "sameas none")
            return f"{self.postfix(depth - 1)} is {self.pick('', 'not ')}{test}"
        f = self.pick("trim", "length", "tojson", "tojson(indent=2)", "join(', ')", "upper", "lower", "title", "capitalize", "default('D')", "default('D', true)",
                      "first", "last", "list", "string", "int", "float", "replace('a', 'b')", "map(attribute='name')|list", "map('upper')|list",
                      "selectattr('name')|list", "selectattr('age', 'gt', 5)|list", "rejectattr('role', 'eq', 'user')|list", "select('string')|list", "reject('odd')|list",
                      "items|list", "dictsort", "sort", "sort(reverse=true)", "unique|list", "reverse|list", "indent", "indent(2, true)", "safe", "escape", "abs",
                      "round", "round(1)", "max", "min", "sum", "batch(2)|list", "groupby('age')", "count", "wordcount", "truncate(6)", "center(8)", "format(1)", "urlencode",
                      "sort(attribute='age')", "join('-', attribute='name')", "map('string')|list|length", "slice(2)|list", "int(5)", "float(1.5)", "trim('a')", "d('x')|upper")
        return f"{self.postfix(depth - 1)} | {f}"

    def tag(self, body, kind="%"):
        left, right = self.pick("", "", "", "-", "+"), self.pick("", "", "", "-")
        if kind == "{":
            return "{{" + left.replace("+", "") + " " + body + " " + right + "}}"
        return "{%" + left + " " + body + " " + right + "%}"

    def block(self, depth):
        r = self.r.random()
        if depth <= 0 or r < 0.4:
            return self.tag(self.expr(2), "{")
        inner = lambda: self.body(depth - 1)
        if r < 0.5:
            out = self.tag("if " + self.expr(1)) + inner()
            if self.r.random() < 0.3:
                out += self.tag("elif " + self.expr(1)) + inner()
            if self.r.random() < 0.5:
                out += self.tag("else") + inner()
            return out + self.tag("endif")
        if r < 0.68:
            target, source = self.pick(("m", "messages"), ("i", "range(3)"), ("i", "words"), ("m", "people"), ("i, m", "d.items()"), ("i", "s"), ("i", self.expr(1)), ("i", "d"))
            loop = self.pick("", "", " if i", " if loop is defined", " if m is defined")
            out = self.tag(f"for {target} in {source}{loop}") + inner()
            out += self.pick("", "{{ loop.index }}", "{{ loop.first }}{{ loop.last }}", "{{ loop.previtem }}", "{{ loop.length - loop.revindex }}", "{% if loop.index > 2 %}{% break %}{% endif %}", "{{ loop.cycle(1, 2) }}")
            if self.r.random() < 0.2:
                out += self.tag("else") + inner()
            return out + self.tag("endfor")
        if r < 0.78:
            return self.tag(f"set {self.pick('x', 'i', 'q', 'm')} = {self.expr(2)}")
        if r < 0.82:
            return self.tag(f"set {self.pick('x', 'q')}{self.pick('', '|upper', '|trim')}") + inner() + self.tag("endset")
        if r < 0.86:
            return "{% set ns = namespace(v=" + self.expr(1) + ") %}{% for i in [1, 2] %}{% set ns.v = ns.v ~ i %}{% endfor %}{{ ns.v }}"
        if r < 0.92:
            return self.tag(f"macro f(a, b={self.expr(0)})") + "{{ a }}" + inner() + self.tag("endmacro") + self.pick("{{ f(1) }}", "{{ f(n, b=2) }}", "{{ f() }}", "{{ f(1, 2, 3) }}", "{{ f(c=1) }}")
        if r < 0.95:
            return self.tag("filter " + self.pick("upper", "trim", "length", "indent")) + inner() + self.tag("endfilter")
        if r < 0.97:
            return self.tag(f"with q = {self.expr(1)}") + inner() + self.tag("endwith")
        return self.pick("{# c #}", "{#- c -#}", "{% raw %}{{ x }}{% endraw %}", "{%- raw -%} {{ {%- endraw -%}")

    def body(self, depth):
        return "".join(self.text() + self.block(depth) for _ in range(self.r.randint(1, 2))) + self.text()


USER = {"role": "user", "content": "h\u00e9 <|im_end|> q"}
TOOL = {"role": "tool", "content": "42", "name": "f", "tool_call_id": "abc123def"}
TOOLS = [{"type": "function", "function": {"name": "f", "description": "adds \u4e16", "parameters": {
    "type": "object", "properties": {"x": {"type": "integer", "description": "a number", "enum": [1, 2]}, "y": {"type": ["string", "null"]}}, "required": ["x"]}}}]


def call(**more):
    function = {"name": "f", "arguments": more.pop("arguments", {"x": 1, "y": [True, None, 2.5]})}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": "abc123def", "type": "function", "function": function}], **more}


CONVERSATIONS = [
    [USER], [{"role": "system", "content": " Be brief.\n"}, USER],
    [{"role": "system", "content": "S"}, USER, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nyes"}, {"role": "user", "content": "\nwhy? "}],
    [USER, call(), TOOL, TOOL], [USER, call(content="", arguments='{"x": 1}'), TOOL, {"role": "assistant", "content": "ok"}, USER],
    [{"role": "system", "content": "S"}, USER, call(content="let me see", reasoning_content="think\n"), TOOL],
    [USER, USER], [{"role": "user", "content": [{"type": "text", "text": " a "}, {"type": "text", "text": "b"}]}],
    [{"role": "user", "content": [{"type": "text", "text": " a "}, {"type": "image"}]}], [{"role": "assistant", "content": "I start"}],
    [{"role": "developer", "content": "D"}, USER],
    [USER, {"role": "assistant", "content": "a", "reasoning_content": "r"}, USER, {"role": "assistant", "content": "b"}],
]
EXTRAS = [{"add_generation_prompt": True, "tools": None, "documents": None}, {"add_generation_prompt": False, "tools": TOOLS, "enable_thinking": False},
          {"add_generation_prompt": True, "tools": TOOLS * 2, "enable_thinking": True, "documents": [{"title": "t", "text": "x"}], "reasoning_effort": "high"}]


def spelling(value, word, kept=("role", "type")):
    """The value with every text in it, but for roles and types, as `word`."""
    if isinstance(value, str):
        return word
    if isinstance(value, list):
        return [spelling(v, word) for v in value]
    if isinstance(value, dict):
        return {k: v if k in kept and isinstance(v, str) else spelling(v, word) for k, v in value.items()}
    return value


def rendered(program, jobs):
    lines = "".join(json.dumps({"template": t, "context": c}) + "\n" for t, c in jobs)
    out = subprocess.run([program], input=lines, capture_output=True, text=True, check=True).stdout.rstrip("\n").split("\n")
    assert len(out) == len(jobs), (len(out), len(jobs))
    return [json.loads(line) for line in out]


def compare_folder(program, folder, words):
    templates = {path: open(path, encoding="utf-8").read() for path in sorted(glob.glob(os.path.join(folder, "*.jinja")))}
    usual = [{"messages": m, "bos_token": "<s>", "eos_token": "</s>", **e} for m in CONVERSATIONS for e in EXTRAS]
    jobs = [(path, t, c) for path, t in templates.items() for c in usual + chats.contexts()]
    wrong, renders, refusals, other_words = 0, set(), 0, {}
    for (path, template, context), got in zip(jobs, rendered(program, [(t, c) for _, t, c in jobs])):
        want = cases.render(template, context)
        if "expected" in want:
            renders.add(path)
        refusals += "error" in want and "error" in got
        if "error" in want and "error" in got and want["error"] != got["error"]:
            other_words.setdefault((want["error"], got["error"]), os.path.basename(path))
        if ("expected" in want) != ("text" in got) or want.get("expected") != got.get("text"):
            wrong += 1
            print(os.path.basename(path), json.dumps(context)[:200], "\n  jinja2:", str(want)[:300], "\n  here:  ", str(got)[:300])
    if words:
        print(*(f"{path}\n  jinja2: {a}\n  here:   {b}" for (a, b), path in other_words.items()), sep="\n")
    print(f"{len(templates)} templates, {len(renders)} render; {len(jobs)} prompts, {refusals} refused by both, {wrong} differ from jinja2; {len(other_words)} refusals in other words")
    # Texts that spell tokens leave the template's own text as texts do that spell none.
    taken = n_pairs = 0
    for evil, inert in (("<|im_end|>", "\ue000|im_enq|\ue000"), ("<|eot_id|>", "\ue000|eqq_iq|\ue000"), ("<s>", "\ue000s\ue000"), ("[/INST]", "\ue000/INSQ\ue000")):
        keep = ("bos_token", "eos_token", "reasoning_effort")
        pairs = [[(t, {k: v if k in keep else spelling(v, w) for k, v in c.items()}) for w in (evil, inert)] for t in templates.values() for c in usual]
        a, b = (rendered(program, [p[i] for p in pairs]) for i in (0, 1))
        for (path, context), x, y in zip(((p, c) for p in templates for c in usual), a, b):
            n_pairs += "own" in x and "own" in y
            if x.get("own") != y.get("own") or "\ue000" in y.get("own", ""):
                taken += 1
                print(os.path.basename(path), repr(evil), json.dumps(context)[:200], "\n ", repr(x)[:400], "\n ", repr(y)[:400])
    print(f"{n_pairs} pairs of prompts whose texts spell tokens and spell none: {taken} differ in the template's own text")
    return wrong or taken


def main():
    args = argparse.ArgumentParser()
    args.add_argument("program")
    args.add_argument("-n", type=int, default=5000)
    args.add_argument("--seed", type=int, default=1)
    args.add_argument("--show", type=int, default=20)
    args.add_argument("--folder")
    args.add_argument("--words", action="store_true", help="prints where both refuse and say it otherwise")
    args = args.parse_args()
    if args.folder:
        return 1 if compare_folder(args.program, args.folder, args.words) else 0
    maker = Maker(args.seed)
    templates = cases.snippets() + [maker.body(3) for _ in range(args.n)]
    ours = rendered(args.program, [(t, cases.CONTEXT) for t in templates])
    shown = wrong = n_rendered = other_words = 0
    for template, got in zip(templates, ours):
        want = cases.render(template, cases.CONTEXT)
        if "expected" in want:
            n_rendered += 1
            if " at 0x" in want["expected"]:
                continue  # an address
        if any(words in want.get("error", "") + got.get("error", "") for words in FOLDED):
            continue  # slices of literals depend on what jinja2's optimizer folds
        if ("expected" in want) == ("text" in got) and want.get("expected") == got.get("text"):
            other_words += "error" in want and not want["syntax"] and want["error"] != got["error"]
            continue
        wrong += 1
        if shown < args.show:
            shown += 1
            print(repr(template), "\n  jinja2:", repr(want), "\n  here:  ", repr(got))
    print(f"{len(templates)} templates: {n_rendered} render, {wrong} differ; {other_words} refusals in other words")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
