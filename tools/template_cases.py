"""The reference for chat templates: jinja2 with the environment of transformers, and templates to compare on."""
import copy
import functools
import json
import warnings
from datetime import datetime

import jinja2
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

warnings.filterwarnings("ignore", category=SyntaxWarning)  # of the Python that jinja2 makes


class Generation(Extension):
    """{% generation %} only marks the answer's tokens; its body renders as it stands."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


class Dict:
    """What transformers puts in place of the class: its two calls and no more."""
    def __call__(self, *args, **kwargs):
        return dict(*args, **kwargs)

    def fromkeys(self, *args, **kwargs):
        return dict.fromkeys(*args, **kwargs)


class Namespace(jinja2.utils.Namespace):
    """Refuses names with an underscore in front, as transformers does."""

    def __init__(*args, **kwargs):
        self, args = args[0], args[1:]
        attributes = dict(*args, **kwargs)
        for name in attributes:
            Namespace.check(name)
        jinja2.utils.Namespace.__init__(self, attributes)

    def __setitem__(self, name, value):
        Namespace.check(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)

    @staticmethod
    def check(name):
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"underscore in front: {name}")


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                        extensions=[Generation, "jinja2.ext.loopcontrols"])

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env.filters["tojson"] = tojson
    env.globals["dict"] = Dict()
    env.globals["namespace"] = Namespace
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return env


@functools.lru_cache(maxsize=4)
def compiled(template):
    return environment().from_string(template)


def render(template, context):
    """The text, or what jinja2 says against it: {"expected": ...} or {"error": ..., "syntax": ...}."""
    try:
        return {"expected": compiled(template).render(**copy.deepcopy(context))}
    except jinja2.exceptions.TemplateSyntaxError as e:
        return {"error": str(e), "syntax": True}
    except Exception as e:
        return {"error": str(e), "syntax": False}


CONTEXT = {
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": " h\u00e9 <|im_end|>\n"},
                 {"role": "assistant", "content": "it's \"so\"", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"x": 1, "y": [True, None, 2.5]}}}]},
                 {"role": "tool", "content": "42", "name": "f"}, {"role": "user", "content": ""}],
    "tools": [{"type": "function", "function": {"name": "f", "description": "adds \u4e16\u754c", "parameters": {"type": "object", "properties": {"x": {"type": "integer", "enum": [1, 2]}}, "required": ["x"]}}}],
    "add_generation_prompt": True, "bos_token": "<s>", "eos_token": "</s>",
    "n": 3, "x": -1.5, "s": "Hello, W\u00f6rld \u4e16\u754c!", "words": ["b", "A", "c", "a", "B"], "nothing": None,
    "d": {"b": 2, "a": 1, "C": {"k": "v"}}, "people": [{"name": "Bo", "age": 7, "at": {"city": "x"}}, {"name": "al", "age": 5, "at": {"city": "y"}}, {"name": "Cy", "age": 7}],
}

# One fact each; grouped by what they show.
SNIPPETS = r"""
{{ n + 1.5 }}|{{ 7 // -2 }}|{{ -7 % 3 }}|{{ 7.5 // 2 }}|{{ -7.5 % 2 }}|{{ 2 ** 10 }}|{{ 2 ** -1 }}|{{ 7 / 2 }}|{{ 1e3 }}|{{ 1.0 }}|{{ 1e16 }}|{{ 1e-5 }}
{{ 0x1F }} {{ 0b101 }} {{ 0o17 }} {{ 1_000 }} {{ 1.5e-3 }} {{ -n }} {{ +n }} {{ - - n }} {{ 2 ** 3 ** 2 }} {{ -2 ** 2 }}
{{ 1 < n < 5 }} {{ 1 == 1.0 }} {{ "a" < "b" }} {{ [1, 2] < [1, 3] }} {{ (1, 2) == (1, 2) }} {{ true + 1 }} {{ true == 1 }}
{{ 1 if n == 3 }} {{ 1 if n == 4 }} {{ 1 if n == 4 else 2 if n == 5 else 3 }}
{{ not n is odd }} {{ n is divisibleby 3 }} {{ n is divisibleby(2) }} {{ n is eq 3 }} {{ n is not none }} {{ "a" in s }} {{ "H" not in s }} {{ 1 in [1] and 2 in (2,) }}
{% for m in messages %}
  {{ m.role ~ loop.index }}
{% endfor %}
{% for m in messages %}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.previtem.role }}{{ loop.nextitem.role }}|{% endfor %}
{% for i in range(3) %}{% for j in range(2) %}{{ loop.depth }}{{ loop.depth0 }}{{ loop.cycle('a', 'b') }}{{ loop.changed(i) }} {% endfor %}{% endfor %}
{% for i in range(10) if i is even %}{% if i == 6 %}{% break %}{% endif %}{% if i == 2 %}{% continue %}{% endif %}{{ i }},{{ loop.index }};{% else %}none{% endfor %}
{% for i in [] %}x{% else %}none{% endfor %}{% for c in "h\u00e9" %}[{{ c }}]{% endfor %}{% for k in d %}{{ k }}{% endfor %}{% for k, v in d.items() %}{{ k }}={{ v }} {% endfor %}
{% for p in people recursive %}{{ p.name }}{% if p.at %}({{ loop([{"name": p.at.city}]) }}){% endif %}{% endfor %}
{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}
{% set x = 1 %}{% for i in range(2) %}{% set x = x + 1 %}{{ x }}{% endfor %}{{ x }}
{% set ns = namespace(a=1) %}{% for i in range(4) %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}{{ ns.b is defined }}
{% set a, b = 1, "two" %}{{ a }}{{ b }}{% set t = 1, %}{{ t }}{% set block %}[{{ n }}]{% endset %}{{ block }}{% set up | upper %}abc{% endset %}{{ up }}
{% with a = 1, b = n %}{{ a + b }}{% endwith %}{{ a is defined }}
{% filter upper | trim %}  abc {{ n }} {% endfilter %}
{% macro f(a, b=2, c=a) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ f(1) }}{{ f(1, c=3) }}{{ f() }}{{ f.name }}
{% macro f() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, z=3) }}
{% macro f() %}<{{ caller() }}>{% endmacro %}{% call f() %}in{% endcall %}
{% macro f(x) %}{% for i in range(x) %}{{ caller(i) }}{% endfor %}{% endmacro %}{% call(i) f(3) %}({{ i }}{{ n }}){% endcall %}
{% macro outer(x) %}{% macro inner() %}{{ x }}{{ n }}{% endmacro %}{{ inner() }}{% set x = 'new' %}{{ inner() }}{% endmacro %}{{ outer('o') }}
{% macro f(n) %}{% if n > 0 %}{{ n }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(4) }}
{% for i in range(2) %}{{ x }}{{ n }}{% endfor %}{% if s %}{% set n = 2 %}{% endif %}{% set x = 1 %}{{ x }}{{ n }}
{% macro f() %}[{{ n }}{{ x is defined }}]{% endmacro %}{{ f() }}{% set x %}{{ x }}{% endset %}{{ f() }}{{ x is defined }}
{% set x %}{{ x }}{% endset %}{{ x }}{{ s }}{% set s %}{{ s | upper }}{% endset %}{{ s }}
{% for m in messages %}{% for i in words %}{{ x }}{{ n }}{{ s }}{% endfor %}{% set x, n = 1, 2 %}{{ n }}{% endfor %}{{ n }}
{% with a = x %}{% filter upper %}{{ s }}{{ x }}{% endfilter %}{% set s = a %}{{ s }}{{ x }}{% endwith %}
{{ range is defined }}{% for i in [] %}{% else %}{{ range is defined }}{{ words is defined }}{% for j in [1] %}{{ words }}{% endfor %}{% set words = 1 %}{% endfor %}{% macro range() %}{% endmacro %}
{{ ["<b>" | safe, ("<" | escape) + "'", {"k" | safe: 1}] }}{{ (x | safe, n | escape) }}
{% for i in range(2) %}{% macro f() %}{{ i }}{% endmacro %}{{ f() }}{% endfor %}
{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, 2) }}
{% macro f(a) %}{{ a }}{% endmacro %}{{ f(b=2) }}
  {%- if n is odd and 1 < n < 5 %} y {%- endif %} 
  {% if true %}
    a
  {% endif %}
b
{%+ if true %}x{%+ endif %}  {#- c -#}  y {{- n -}} z
a  {# comment #}
{# whole line #}
b
{% raw %}{{ n }}{% endraw %}|{%- raw -%}  {% x %}  {%- endraw %}
{{ "a\n" }}{{ 'b\t\'' }}{{ "\x41\u00e9\U0001F600\101" }}{{ "a" "b" }}{{ '\d' }}
{{ messages }}
{{ [1, 2.0, "a'b", 'q"q', none, true, (1,), (), {}, {"a": [1]}, "\n\\\x01\u00e9\u200b"] }}
{{ messages | tojson }}{{ tools | tojson(indent=2) }}{{ d | tojson(sort_keys=true, indent=0) }}{{ "\u00e9</a>" | tojson }}{{ "\u00e9\U0001F600" | tojson(ensure_ascii=true) }}
{{ {1: 2, none: 3, true: 4, 1.5: 5} | tojson }}{{ [] | tojson(indent=2) }}{{ {} | tojson(indent=2) }}{{ [1, {"a": []}] | tojson(separators=(',', ':')) }}{{ [1e20, 0.1, -0.0] | tojson }}
{{ messages[::-1][0].content[:2] }}|{{ s[-3:] }}|{{ s[1:7:2] }}|{{ s[::-1] }}|{{ words[-2] }}|{{ words[1:] }}|{{ words[5:] }}|{{ words[-100:2] }}|{{ s[0] }}{{ s[-1] }}
{{ missing }}|{{ missing is defined }}|{{ messages[9] }}|{{ d.zz }}|{{ d['zz'] }}|{{ missing | default('x') }}|{{ '' | default('x', true) }}|{{ nothing | default('x') }}|{{ missing | length }}|{{ missing ~ 'a' }}
{{ missing.x }}
{{ missing + 1 }}
{{ missing() }}
{{ d.zz.y }}
{{ messages[0].nope + 'a' }}
{{ nothing.x }}|{{ nothing.x.y }}
{{ n.x }}{{ n['x'] }}{{ s.nope }}{{ words.nope }}{{ words['0'] }}
{{ 'a' + 1 }}
{{ 1 + 'a' }}
{{ [1] + (2,) }}
{{ 'a' < 1 }}
{{ 1 / 0 }}
{{ none | length }}
{% for x in 5 %}{% endfor %}
{% for a, b in [1] %}{% endfor %}
{% for a, b in [(1, 2, 3)] %}{% endfor %}
{{ words.append('x') }}
{{ d.update({}) }}
{{ s.__class__ }}{{ s.__class__.__mro__ }}
{{ ''.__class__.__subclasses__() }}
{{ raise_exception('roles must alternate') }}
{% include 'x' %}
{{ range(3) }}{{ range(1, 7, 2) | list }}{{ range(3, 0, -1) | list }}{{ range(3)[1] }}{{ range(4) | length }}
{{ dict(a=1, b=2) }}{{ dict([('a', 1)]) }}{{ dict(d, z=3) }}{{ d.get('a') }}{{ d.get('q') }}{{ d.get('q', 0) }}{{ d.keys() }}{{ d.values() }}{{ d.items() }}{{ d['a'] }}
{{ words | sort }}{{ words | sort(reverse=true) }}{{ words | sort(case_sensitive=true) }}{{ people | sort(attribute='age') | map(attribute='name') | list }}{{ people | sort(attribute='age,name') | map(attribute='name') | list }}
{{ words | unique | list }}{{ words | reverse | list }}{{ words | first }}{{ words | last }}{{ words | join }}{{ words | join('-') }}{{ people | join('/', attribute='name') }}{{ [] | first }}{{ words | max }}{{ words | min }}{{ [3, 1] | sum }}{{ people | sum(attribute='age') }}{{ [3, 1] | max }}
{{ people | map(attribute='at.city', default='?') | list }}{{ words | map('upper') | join }}{{ words | map('replace', 'a', 'z') | list }}
{{ people | selectattr('at') | map(attribute='name') | list }}{{ people | selectattr('age', 'equalto', 7) | list | length }}{{ people | rejectattr('age', '>', 6) | map(attribute='name') | list }}{{ [1, 2, 3] | select('odd') | list }}{{ [0, 1, '', 'a'] | select | list }}{{ [1, 2] | reject('even') | list }}
{% for g in people | groupby('age') %}{{ g.grouper }}:{{ g.list | map(attribute='name') | join(',') }};{% endfor %}{% for k, v in people | groupby('age') %}{{ k }}{{ v | length }}{% endfor %}
{{ d | dictsort }}{{ d | dictsort(reverse=true) }}{{ {'a': 2, 'b': 1} | dictsort(by='value') }}{{ d | items | list }}
{{ [1, 2, 3, 4, 5] | batch(2) | list }}{{ [1, 2, 3] | batch(2, 0) | list }}{{ [1, 2, 3, 4, 5] | slice(3) | list }}{{ [1, 2] | slice(3, 'x') | list }}
{{ "  a b \u3000" | trim }}|{{ "xxaxx" | trim('x') }}|{{ s | upper }}|{{ s | lower }}|{{ "hELLO wORLD-foo (bar" | title }}|{{ "hELLO" | capitalize }}|{{ "stra\u00dfe" | upper }}|{{ "\u00c9T\u00c9" | lower }}
{{ "a\nb\n\nc" | indent }}|{{ "a\nb" | indent(2, true) }}|{{ "a\n\nb" | indent(2, blank=true) }}|{{ "a\nb" | indent('> ') }}
{{ "<a href='x'>&" | escape }}{{ "<" | e }}{{ "<b>" | safe }}{{ 42 | string }}{{ s | length }}{{ s | count }}{{ words | list }}{{ "abc" | list }}{{ n | abs }}{{ x | abs }}
{{ "42" | int }}{{ " 42 " | int }}{{ "4.7" | int }}{{ "x" | int }}{{ "x" | int(7) }}{{ "ff" | int(base=16) }}{{ "0x1f" | int(0, 16) }}{{ 4.9 | int }}{{ true | int }}{{ "1e3" | int }}{{ "2.5" | float }}{{ "x" | float }}{{ "1_000" | int }}{{ none | int }}
{{ 42.55 | round }}{{ 42.55 | round(1) }}{{ 42.55 | round(1, 'floor') }}{{ 42.1 | round(0, 'ceil') }}{{ 42 | round }}{{ 2.5 | round }}{{ 3.5 | round }}{{ 2.675 | round(2) }}
{{ "foo bar baz qux" | truncate(9) }}{{ "foo bar baz qux" | truncate(9, true) }}{{ "foo bar baz qux" | truncate(11) }}{{ "foo bar baz qux" | truncate(11, false, '..', 0) }}{{ "a b_c d" | wordcount }}{{ "ab" | center(7) }}|
{{ "%s-%d-%05.2f-%x-%r" | format("a", 3, 2.5, 255, "q") }}{{ "%(a)s" | format(a=1) }}{{ "%s" % "x" }}{{ "%5s|%-5s|" % ("a", "b") }}{{ "%+d %%" % 3 }}
{{ "{} {1} {a}".format(1, 2, a=3) if false else "{} {}".format(1, "b") }}{{ "{0}{1}{0}".format(1, 2) }}{{ "{a:>5}|{b:<5}|{c:^5}|{d:05d}|{e:.2f}|{f:,}".format(a="x", b="y", c="z", d=42, e=3.14159, f=1234567) }}{{ "{{}}".format() }}{{ "{!r}".format("a") }}
{{ s.upper() }}{{ s.lower() }}{{ "a,b,,c".split(",") }}{{ " a  b ".split() }}{{ "a b c".split(" ", 1) }}{{ "a b c".rsplit(" ", 1) }}{{ "a b c".split(maxsplit=1) }}{{ "a-b-c".partition("-") }}{{ "a-b-c".rpartition("-") }}{{ "a\nb\r\nc".splitlines() }}
{{ "  a ".strip() }}|{{ "  a ".lstrip() }}|{{ "  a ".rstrip() }}|{{ "xay".strip("xy") }}|{{ "abc".startswith("ab") }}|{{ "abc".endswith(("x", "c")) }}|{{ "abc".find("c") }}|{{ "abc".find("z") }}|{{ "h\u00e9h".rfind("h") }}|{{ "aXbX".replace("X", "-", 1) }}|{{ "abc".replace("", ".") }}
{{ "ab cd".title() }}{{ "it's".title() }}{{ "AB".swapcase() }}{{ "ab".capitalize() }}{{ "5".zfill(3) }}{{ "-5".zfill(4) }}{{ "ab".ljust(4) }}|{{ "ab".rjust(4, '.') }}{{ "abc".center(6) }}|{{ "abca".count("a") }}{{ ",".join(["a", "b"]) }}{{ "abc".removeprefix("a").removesuffix("c") }}{{ "a1".isalnum() }}{{ "12".isdigit() }}{{ "ab".isalpha() }}{{ " ".isspace() }}{{ "ab".islower() }}{{ "AB".isupper() }}
{{ n is number }}{{ n is integer }}{{ x is float }}{{ s is string }}{{ d is mapping }}{{ words is sequence }}{{ words is iterable }}{{ s is sequence }}{{ true is boolean }}{{ true is true }}{{ 1 is true }}{{ none is none }}{{ missing is undefined }}{{ range is callable }}{{ 'upper' is filter }}{{ 'odd' is test }}{{ 'a' is lower }}{{ 'A' is upper }}{{ 1 is sameas 1 }}{{ 3 is gt 2 }}{{ 3 is in [3] }}{{ n is not string }}
{{ words | selectattr | list }}
{{ s | nofilter }}
{{ s is notest }}
{{ s | trim('x', 'y') }}
{{ s | upper(1) }}
{{ s | replace('a') }}
{{ words | join(bad=1) }}
{{ s.strip(1) }}
{{ s.split('') }}
{% if %}{% endif %}
{% for %}{% endfor %}
{{ }}
{{ 'a
{% if true %}
{{ (1, 2 }}
{% endif %}
{% break %}
{{ {'a': 1}.a }}{{ {'items': 1}['items'] }}{{ {'items': 1}.items() }}{{ [[1, 2], [3]][0][1] }}{{ (1, 2)[0] }}{{ "abc"[1] }}{{ d.C.k }}{{ d['C']['k'] }}{{ [1, 2, 2].count(2) }}{{ [1, 2].index(2) }}
{{ [1, 2] + [3] }}{{ "ab" * 3 }}{{ 2 * [0] }}{{ (1,) * 2 }}{{ "a" ~ 1 ~ none ~ true ~ 1.0 }}{{ [] or 'x' }}{{ 0 and 1 }}{{ '' or none }}{{ 1 and 'a' }}
{{ loop is defined }}{{ caller is defined }}{% for i in [1] %}{{ loop }}{% endfor %}
{% set ns = namespace() %}{% set ns._a = 1 %}
{% set d.x = 1 %}
{% set l = words | select('in', ['a', 'b']) %}{{ l | list }}{{ l | list }}
{% block title %}in {{ n }}{% endblock %}{% generation %}answer{% endgeneration %}
{{ [1, 2, 3] | map('string') | map('length') | sum }}{{ 'x' if words else 'y' }}{{ words is not defined or n > 2 }}{{ n in (1, 2, 3) and not false }}
{{ a.b.c is defined }}
{{ (messages | last).role }}{{ messages | map(attribute='role') | join(', ') }}{{ messages | selectattr('role', 'eq', 'user') | map(attribute='content') | first | trim }}
{{ messages | map('attr', 'role') | list }}{{ "a b&c/d" | urlencode }}{{ [1, [2, [3]]] }}{{ 10 | string | length }}
{{ strftime_now('%%') }}{{ strftime_now('%Y') | length }}
{% if missing %}{{ s | nofilter }}{{ s is notest }}{% else %}ok{% endif %}
{{ 'ok' if true else s | nofilter }}{{ 'ok' if true or s is notest }}
{% set été = 1 %}{{ été }}{% set 世界 = 2 %}{{ 世界 }}{% macro α(β) %}{{ β }}{% endmacro %}{{ α(β=3) }}
{{ € }}
{% raw %}@@{{ x }}@@{% endraw %}!|{%- raw -%}@@ {{ x }} @@{%- endraw -%}@@!|{%+ raw %} @@{% endraw %}@@a
{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.reset() }}{{ c.next() }}{% set j = joiner('; ') %}{% for i in range(3) %}{{ j() }}{{ i }}{% endfor %}{% set k = joiner() %}{{ k() }}{{ k() }}
{{ cycler() }}
{% autoescape false %}{{ '<' }}{% set inner = 1 %}{% endautoescape %}{{ inner is defined }}
{{ 1 | filesizeformat }}{{ 999 | filesizeformat }}{{ 1000 | filesizeformat }}{{ 1024 | filesizeformat(true) }}{{ 123456789 | filesizeformat }}{{ 1e30 | filesizeformat }}{{ 13.5 | filesizeformat }}
<a{{ {'class': 'a<b', 'id': 3, 'no': none, 'un': missing} | xmlattr }}>{{ {'a': '"'} | xmlattr(false) }}{{ {} | xmlattr }}
{{ {'a b': 1} | xmlattr }}
{{ "abc".translate({97: 'X', 98: none, 99: 100}) }}{{ "a\tbc\td".expandtabs(4) }}{{ "\t|a\n\tb".expandtabs() }}{{ "a\tb".expandtabs(0) }}
{{ "a_1".isidentifier() }}{{ "1a".isidentifier() }}{{ "\u00e9".isidentifier() }}{{ "".isidentifier() }}{{ "\u00bd\u4e00".isnumeric() }}{{ "\u00b2".isdigit() }}{{ "\u00b2".isdecimal() }}{{ "\u0663".isdecimal() }}{{ "Ab Cd".istitle() }}{{ "AbC".istitle() }}{{ "a\u200b".isprintable() }}{{ "".isprintable() }}
{{ "\u1e9e\ufb01\u00df\u03a3".casefold() }}|{{ "\u039f\u0394\u039f\u03a3 \u03a3 \u03a3\u0391".lower() }}|{{ "\ufb01\u00df\u0149".upper() }}|{{ "\ufb01n \u01c4x".title() }}|{{ "\ufb01n \u039f\u03a3" | title }}|{{ "\u0130".lower() | length }}|{{ "\ufb01\u00c9".swapcase() }}|{{ "\ufb01A".capitalize() }}|{{ "\u2160\u24d0" is upper }}{{ "\u00aa" is lower }}
{{ "{:,}|{:,}|{:,.2f}|{:_}|{:010,}|{:,}".format(1234567.5, 1e16, 9876543.219, 1234567, 1234.5, -1234) }}{{ "{:08,d}".format(1234) }}{{ "{:_x}".format(1048575) }}
{{ "<" | safe + "<" }}{{ "<" + ("<" | safe) }}{{ ("<" | safe) ~ "<" }}{{ ("a" | escape) + "<" }}{{ "<" | escape | escape }}{{ "<" | forceescape | forceescape }}
{{ dict.fromkeys(['a', 'b']) }}{{ dict.fromkeys('aba', 3) }}{{ {'a': 1}.fromkeys((1, 2), []) }}{{ {}.fromkeys({}) }}
{{ dict.fromkeys(5) }}
{{ dict.fromkeys([[]]) }}
{{ '%s' is divisibleby 2 }}{{ '%s' is odd }}{{ '%d' is even }}{{ 7.0 is odd }}{{ -3 is odd }}{{ 6 is divisibleby(1.5) }}
{{ "a<b>c".partition("<b>") }}{{ "a b  c".rsplit(none, 1) }}{{ " a b ".rsplit(maxsplit=0) }}{{ "a b c".split(none, 1) }}
"""


def snippets():
    """Templates of SNIPPETS: a line each, but lines that open a tag at their end, or indented ones, join the next."""
    out, held = [], []
    lines = SNIPPETS.strip("\n").split("\n")
    groups = {"{% for m in messages %}": 3, "  {% if true %}": 4, "a  {# comment #}": 3}
    i = 0
    while i < len(lines):
        n = groups.get(lines[i], 1)
        out.append("\n".join(lines[i:i + n]))
        i += n
    return [t.replace("@@", "\n") for t in out]
