#!/usr/bin/env python3
"""Seconds of reading and answering against the keys that are read: dense attention beside sparse programs.

  python3 bench/sparse.py -m MODEL.gguf -l 16384 --fovea build/fovea -o bench/results/xeon-sparse.json SPEC SPEC ...

Each program reads the same -l tokens of Debian's licences and decodes -n, in turn, -r times (medians). `active` is the
share of dense's keys that it computed. A program that reads next to nothing (streaming-llm, 64 keys) says what a prefill
takes beside attention; `gain` is dense's seconds over the program's, `ceiling` the gain that its share of keys would
allow if attention took that share of its time and the rest stayed: rest + active * (dense - rest). The last row is the
straight line of seconds over active shares: its intercept beside `rest`, and how well it fits. With --nll, loss against
dense of the second half of one text of that length (`fovea eval nll`).
"""
import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import result

LICENCES = "/usr/share/common-licenses"
NAMES = ["GPL-3", "GFDL-1.3", "LGPL-2.1", "MPL-2.0", "Apache-2.0", "GPL-2", "GFDL-1.2", "Artistic", "CC0-1.0", "GPL-1"]
NOTHING = "streaming-llm:n_sink=4:window=60"


def ask(command):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"sparse.py: {' '.join(map(str, command))}: exit {done.returncode}")
    return json.loads(done.stdout)


def line(points):
    """Least squares: intercept, slope and the share of the variance that it explains."""
    n = len(points)
    mx, my = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    sxx = sum((x - mx) ** 2 for x, _ in points)
    syy = sum((y - my) ** 2 for _, y in points)
    if sxx == 0 or syy == 0:
        return my, 0.0, 1.0
    slope = sum((x - mx) * (y - my) for x, y in points) / sxx
    return my - slope * mx, slope, slope * slope * sxx / syy


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-l", "--length", type=int, default=8192)
    parser.add_argument("-n", type=int, default=32)
    parser.add_argument("-r", type=int, default=3)
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("--fovea", default="build/fovea")
    parser.add_argument("--nll", action="store_true")
    parser.add_argument("-o", "--output")
    parser.add_argument("specs", nargs="+")
    args = parser.parse_args()
    specs = ["dense", NOTHING] + args.specs
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder, "text")
        text.write_text("\n\n".join(Path(LICENCES, name).read_text() for name in NAMES))
        tokens = [t["id"] for t in ask([args.fovea, "tokenize", "-m", args.model, "-f", text, "--json"])["tokens"]]
        if len(tokens) < args.length:
            sys.exit(f"sparse.py: the licences are {len(tokens)} tokens, fewer than --length {args.length}")
        ids = Path(folder, "ids.json")
        ids.write_text(json.dumps(tokens[:args.length]))
        runs = {spec: [] for spec in specs}
        for i in range(args.r):
            for spec in specs:
                runs[spec].append(ask([args.fovea, "run", "-m", args.model, "--raw", "--ids", ids, "-n", args.n, "-t",
                                       args.threads, "--attention", spec, "--ignore-eos", "--lookup", "off", "--json",
                                       "-q", "-c", args.length + args.n]))
                print(f"{i + 1} of {args.r}: {spec}: {runs[spec][-1]['timings']['prompt_ms'] / 1e3:.1f} s",
                      file=sys.stderr, flush=True)
    seconds = {s: statistics.median(r["timings"]["prompt_ms"] for r in runs[s]) / 1e3 for s in specs}
    decode = {s: statistics.median(r["timings"]["predicted_per_second"] for r in runs[s]) for s in specs}
    loss = {}
    if args.nll:
        for spec in specs:
            loss[spec] = ask([args.fovea, "eval", "nll", "-m", args.model, "--length", args.length, "--samples", "1",
                              "--attention", spec, "--json", "-q"])["nll"]
    rest = seconds[NOTHING]
    rows, points = [], []
    for spec in specs:
        active = runs[spec][0]["cost"]["key_share"]
        points.append((active, seconds[spec]))
        row = {"attention": spec, "active": active, "prefill_seconds": seconds[spec],
               "gain": seconds["dense"] / seconds[spec],
               "ceiling": seconds["dense"] / (rest + active * (seconds["dense"] - rest)),
               "decode_per_second": decode[spec], "decode_gain": decode[spec] / decode["dense"],
               "kv_ratio": runs[spec][0]["cost"]["kv_bytes"] / runs["dense"][0]["cost"]["kv_bytes"]}
        if loss:
            row["nll"], row["nll_loss_percent"] = loss[spec], 100 * (loss[spec] / loss["dense"] - 1)
        rows.append(row)
    intercept, slope, fit = line(points)
    rows.append({"attention": "line", "intercept_seconds": intercept, "intercept_over_dense": intercept / seconds["dense"],
                 "rest_over_dense": rest / seconds["dense"], "slope_seconds": slope, "r2": fit})
    out = {**result.head("sparse", ["python3", "bench/sparse.py", *sys.argv[1:]], [args.model]),
           "title": f"Sparse programs at {args.length} tokens", "rows": rows}
    if args.output:
        result.keep(args.output, out)
    print(json.dumps(out, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
