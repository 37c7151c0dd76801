#!/usr/bin/env python3
"""Makes docs/speed-tables.md of bench/results/*.json; with --check, fails if the page is not what it would make."""
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "speed-tables.md"
KINDS = {  # in this order; others after them
    "zen5": "AMD, AVX-512 (Zen 5 kind)",
    "zen4": "AMD, AVX-512 (Zen 4 kind)",
    "zen3": "AMD, AVX2 only (Zen 3 kind)",
    "xeon": "Intel Xeon, AVX-512",
    "xeon-slow": "Intel Xeon, AVX-512, at half that speed",
}
ORDER = ["peers", "sequences", "window", "roofline"]  # of the benchmarks of one machine; others after them
HEAD = """# Speed: tables

Made by `python3 tools/speed_tables.py` from `bench/results/`; written by hand nowhere. What the numbers say and how they
are measured: [speed.md](speed.md). Each table names its command and the commit that ran; `+` marks a changed tree.
"""


def cell(value):
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        size = abs(value)
        text = f"{value:,.0f}" if size >= 200 else f"{value:.1f}" if size >= 20 else f"{value:.4g}"
        return text
    if isinstance(value, int):
        return f"{value:,}"
    return str(value).replace("|", "\\|")


def table(rows):
    """One column per key, in the order of their first use."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["| " + " | ".join(keys) + " |", "|" + "---|" * len(keys)]
    lines += ["| " + " | ".join(cell(row.get(key)) for key in keys) + " |" for row in rows]
    return "\n".join(lines)


def peers(rows):
    """bench/peers.py: a row per test with both engines; already flat rows pass."""
    if not any("engine" in row for row in rows):
        return table(rows)
    out = []
    for test in dict.fromkeys(row["test"] for row in rows):
        of = {row["engine"].split(" ")[0]: row for row in rows if row["test"] == test}
        line = {"test": test}
        for engine, row in of.items():
            seconds = "seconds" in row
            value, scale = (row["seconds"], 1e3) if seconds else (row["tokens_per_second"], 1)
            name = "Fovea" if engine == "fovea" else engine
            ends = f"{cell(row['min'] * scale)} to {cell(row['max'] * scale)}"
            line[name] = cell(value * scale) + (" ms" if seconds else "") + (f" ({ends})" if len(row["samples"]) > 1 else "")
            if "fovea_ratio" in row:
                line[f"ratio to {engine}"] = f"{row['fovea_ratio']:.2f}x"
        for engine, row in of.items():
            line[f"MiB, {'Fovea' if engine == 'fovea' else engine}"] = round(row["peak_rss_bytes"] / 2**20)
        out.append(line)
    return table(out)


def roofline(rows):
    limits = [row for row in rows if "threads" in row and "kernel" not in row]
    kernels = [{"isa": r["isa"], "kernel": r["kernel"], f"rate": f"{r['rate']:.1f} {r['unit']}",
                "limit": f"{r['against']} {r['limit']:.0f}", "share": f"{100 * r['share']:.0f} %"}
               for r in rows if "kernel" in r and "unit" in r]
    if not kernels and not all("f32_gflops" in row for row in limits):
        return table(rows)
    names = {"f32_gflops": "float32, GFLOP/s", "bf16_gflops": "bf16, GFLOP/s", "int16_gops": "int16, GOP/s",
             "int8_gops": "int8, GOP/s", "read_gb_per_second": "reads, GB/s"}
    parts = [[{names.get(k, k): v for k, v in row.items()} for row in limits], kernels]
    return "\n\n".join(table(part) for part in parts if part)


def section(result):
    lines = [f"### {result.get('title') or result['benchmark']}", ""]
    models = ", ".join(f"{name} (sha256 {digest[:8]})" for name, digest in result.get("models", {}).items())
    facts = [f"commit {result['commit']}" if result.get("commit") else "", models,
             f"{result['peer']}" if result.get("peer") else ""]
    if result.get("command"):
        lines += [f"`{result['command']}`", ""]
    lines += ["; ".join(fact for fact in facts if fact) + ".", ""] if any(facts) else []
    render = {"peers": peers, "roofline": roofline}.get(result["benchmark"], table)
    lines += [render(result["rows"])]
    for note in result.get("notes", []) + ([result["note"]] if "note" in result else []):
        lines += ["", note]
    return "\n".join(lines)


def rank(names, name):
    return (names.index(name) if name in names else len(names), name)


def page():
    results = [(path.name, json.loads(path.read_text())) for path in sorted((ROOT / "bench" / "results").glob("*.json"))]
    kinds = list(KINDS)
    parts = [HEAD]
    for kind in sorted({r["kind"] for _, r in results}, key=lambda k: rank(kinds, k)):
        mine = [(name, r) for name, r in results if r["kind"] == kind]
        mine.sort(key=lambda item: (rank(ORDER, item[1]["benchmark"]), item[0]))
        cpus = list(dict.fromkeys(f"{r['machine']['cpu']}, {r['machine']['cores']} cores" for _, r in mine))
        parts.append(f"## {KINDS.get(kind, kind)}\n\n" + "; ".join(cpus) + ".\n")
        parts += [section(r) + "\n" for _, r in mine]
    return "\n".join(parts)


def main():
    made = page()
    if "--check" in sys.argv[1:]:
        if not PAGE.is_file() or PAGE.read_text() != made:
            print("docs/speed-tables.md is not what bench/results/ makes: run python3 tools/speed_tables.py",
                  file=sys.stderr)
            return 1
        print("speed tables: ok")
        return 0
    PAGE.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
