"""Writes tests/golden/templates.json with jinja2 as the oracle. Needs jinja2."""
import json
from jinja2.sandbox import ImmutableSandboxedEnvironment
env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
env.filters["tojson"] = lambda x, indent=None: json.dumps(x, ensure_ascii=False, indent=indent)
C = {"messages": [{"role": "user", "content": "hi é"}, {"role": "assistant", "content": "it's"}], "n": 3}
S = ["{{ n + 1.5 }}|{{ 7 // -2 }}|{{ -7 % 3 }}", "{% for m in messages %}\n  {{ m.role ~ loop.index }}\n{% endfor %}", "{{ messages }}", "{{ messages | tojson(indent=2) }}", "{% set ns = namespace(a=1) %}{% for i in range(4) %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}", "{{ messages[::-1][0].content[:2] }}", "{% macro f(a, b=2) %}{{ a }}{{ b }}{% endmacro %}{{ f(1) }}", "{{ missing }}{{ missing.x }}", "{{ messages | map(attribute='role') | join(', ') }}", "  {%- if n is odd and 1 < n < 5 %} y {%- endif %} "]
out = []
for s in S:
    try: out.append({"template": s, "context": C, "expected": env.from_string(s).render(**C)})
    except Exception as e: out.append({"template": s, "context": C, "error": str(e)})
json.dump(out, open("tests/golden/templates.json", "w"), ensure_ascii=False, indent=1)
