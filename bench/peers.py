#!/usr/bin/env python3
"""Speed of Fovea beside its peers, on this machine, now: same file, threads, prompt and depth, in alternation.

  python3 bench/peers.py -m MODEL.gguf --fovea build/fovea --llama LLAMA_BENCH --ik IK_LLAMA_BENCH --json OUT.json

Peers are the llama-bench programs of llama.cpp (flash attention off and on: on is far slower at depth) and
ik_llama.cpp (run-time repacking off and on), of which the better median stands for the engine test by test, and
xllamacpp, a packaged llama.cpp driven through its server. Prompt speed
is at depth 0; decode speed is after a prompt of each depth. Every round starts each engine once as a fresh process
that warms up before it times, so drift of the machine hits all of them. Medians and ranges over the rounds.

Speed says nothing about the answer: read it with bench/quality.py. ik_llama.cpp 8337e4cd3 built natively on an
AVX-512 Xeon gives perplexity 96.2 on a Q4_1 SmolLM2-135M in batches of 512 (llama.cpp 17.9; itself, token by token,
17.8), so its prefill there is not the same work.
"""
import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def cpu():
    info = dict(l.split(":", 1) for l in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines() if ":" in l)
    info = {k.strip(): v.strip() for k, v in info.items()}
    wanted = ("avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8")
    return {"cpu": info.get("model name", platform.machine()), "cores": os.cpu_count(),
            "isa": [f for f in wanted if f in info.get("flags", "").split()], "kernel": platform.release()}


def run(command):
    """The command's stdout and the peak memory of its process."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = subprocess.Popen([str(c) for c in command], stdout=out, stderr=err)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        if child.returncode != 0:
            err.seek(0)
            raise RuntimeError(f"{' '.join(map(str, command))}: exit {child.returncode}\n{err.read()[-2000:]}")
        return out.read(), usage.ru_maxrss * 1024


def joined(values):
    return ",".join(map(str, values))


# Each engine returns rows (n_prompt, n_gen, depth, tokens per second, peak bytes).

def fovea(args):
    out, _ = run([args.fovea, "bench", "-m", args.model, "-p", joined(args.prompt), "-n", args.gen,
                  "-d", joined(args.depth), "-r", 1, "-t", args.threads, *args.fovea_args.split(), "--json"])
    answer = json.loads(out)
    args.fovea_isa = answer.get("isa")
    return [(r["n_prompt"], r["n_gen"], r["depth"], r["tokens_per_second"], r.get("peak_rss_bytes", 0))
            for r in answer["rows"]]


def llama(flash):
    def bench(args):
        common = [args.llama, "-m", args.model, "-t", args.threads, "-fa", flash, "-r", 1, "-o", "json"]
        rows = []
        for tail in (["-p", joined(args.prompt), "-n", 0], ["-p", 0, "-n", args.gen, "-d", joined(args.depth)]):
            out, peak = run(common + tail)
            rows += [(r["n_prompt"], r["n_gen"], r["n_depth"], r["avg_ts"], peak) for r in json.loads(out)]
        return rows
    return bench


def ik(repack):
    def bench(args):
        common = [args.ik, "-m", args.model, "-t", args.threads, "-fa", 1, "-r", 1, "-rtr", repack, "-o", "json"]
        out, peak = run(common + ["-p", joined(args.prompt), "-n", 0])
        rows = [(r["n_prompt"], 0, 0, r["avg_ts"], peak) for r in json.loads(out)]
        for depth in args.depth:
            shape = ["-n", 0, "-gp", f"{depth},{args.gen}"] if depth else ["-n", args.gen]
            out, peak = run(common + ["-p", 0] + shape)
            rows += [(0, args.gen, depth, r["avg_ts"], peak) for r in json.loads(out)]
        return rows
    return bench


def xllamacpp(args):
    out, peak = run([args.xllamacpp, __file__, "--xllamacpp-worker", "-m", args.model, "-p", joined(args.prompt),
                     "-n", args.gen, "-d", joined(args.depth), "-t", args.threads])
    return [(*row, peak) for row in json.loads(out.splitlines()[-1])]


def xllamacpp_worker(args):
    import xllamacpp as x
    params = x.CommonParams()
    params.model.path, params.n_ctx = args.model, max(args.prompt + args.depth) + args.gen + 64
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = args.threads
    params.n_parallel, params.cache_prompt, params.warmup = 1, False, True
    params.flash_attn_type = x.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_ENABLED
    server = x.Server(params)

    def timings(n_prompt, n_gen):
        ids = [100 + (i * i + 7 * i) % 20000 for i in range(n_prompt)]
        answer = server.handle_completions({"prompt": ids, "max_tokens": n_gen, "n_predict": n_gen, "temperature": 0,
                                            "ignore_eos": True, "cache_prompt": False, "timings_per_token": True})
        if isinstance(answer, (str, bytes)):
            answer = json.loads(answer)
        return answer["timings"]

    timings(32, 4)
    rows = [(p, 0, 0, timings(p, 1)["prompt_per_second"]) for p in args.prompt]
    rows += [(0, args.gen, d, timings(max(d, 1), args.gen)["predicted_per_second"]) for d in args.depth]
    print("\n" + json.dumps(rows), flush=True)
    os._exit(0)  # the server's threads would outlive the answer


def label(key):
    n_prompt, n_gen, depth = key
    return f"prefill {n_prompt}" if n_prompt else f"decode {n_gen} at depth {depth}"


def summary(samples):
    """{engine: {key: [(speed, bytes), ...]}} to rows, one per test and engine: the best of an engine's settings."""
    rows = []
    for key in sorted({k for s in samples.values() for k in s}, key=lambda k: (k[0] == 0, k)):
        entries = []
        for engine, taken in samples.items():
            if key in taken:
                speeds = [s for s, _ in taken[key]]
                entries.append({"engine": engine, "test": label(key), "n_prompt": key[0], "n_gen": key[1],
                                "depth": key[2], "tokens_per_second": statistics.median(speeds), "min": min(speeds),
                                "max": max(speeds), "samples": speeds, "peak_rss_bytes": max(b for _, b in taken[key])})
        best = {}
        for e in sorted(entries, key=lambda e: e["tokens_per_second"]):
            best[e["engine"].split(" ")[0]] = e
        rows += [e for e in entries if e in best.values()]
    for row in rows:
        mine = [r for r in rows if r["test"] == row["test"] and r["engine"] == "fovea"]
        if mine and row["engine"] != "fovea":
            row["fovea_ratio"] = mine[0]["tokens_per_second"] / row["tokens_per_second"]
    return rows


def numbers(text):
    return [int(v) for v in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-p", "--prompt", type=numbers, default=[512, 4096])
    parser.add_argument("-n", "--gen", type=int, default=64)
    parser.add_argument("-d", "--depth", type=numbers, default=[0, 8192])
    parser.add_argument("-t", "--threads", type=int, default=os.cpu_count())
    parser.add_argument("-r", "--rounds", type=int, default=3)
    parser.add_argument("--fovea", help="the fovea program")
    parser.add_argument("--fovea-args", default="", help="more flags for fovea bench")
    parser.add_argument("--llama", default=os.environ.get("LLAMA_BENCH"), help="llama.cpp's llama-bench")
    parser.add_argument("--ik", default=os.environ.get("IK_LLAMA_BENCH"), help="ik_llama.cpp's llama-bench")
    parser.add_argument("--xllamacpp", nargs="?", const=sys.executable, help="a Python that has xllamacpp")
    parser.add_argument("--json", help="where to keep everything measured")
    parser.add_argument("--xllamacpp-worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.xllamacpp_worker:
        return xllamacpp_worker(args)

    engines = {name: bench for name, bench, wanted in (
        ("fovea", fovea, args.fovea), ("ik_llama.cpp -rtr 0", ik(0), args.ik), ("ik_llama.cpp -rtr 1", ik(1), args.ik),
        ("llama.cpp -fa 0", llama(0), args.llama), ("llama.cpp -fa 1", llama(1), args.llama),
        ("xllamacpp", xllamacpp, args.xllamacpp)) if wanted}
    if not engines:
        parser.error("nothing to run: give --fovea, --llama, --ik or --xllamacpp")
    report = {"machine": cpu(), "model": Path(args.model).name, "model_bytes": Path(args.model).stat().st_size,
              "threads": args.threads, "rounds": args.rounds, "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
              "load_before": os.getloadavg(), "failed": {}}
    samples = {name: {} for name in engines}
    for round_ in range(args.rounds):
        for name, bench in engines.items():
            print(f"round {round_ + 1} of {args.rounds}: {name}", file=sys.stderr)
            try:
                for n_prompt, n_gen, depth, speed, peak in bench(args):
                    samples[name].setdefault((n_prompt, n_gen, depth), []).append((speed, peak))
            except (RuntimeError, OSError, KeyError, ValueError) as problem:  # the others' numbers still count
                report["failed"][name] = str(problem)
                print(f"{name} failed: {problem}", file=sys.stderr)
    report |= {"load_after": os.getloadavg(), "fovea_isa": getattr(args, "fovea_isa", None), "rows": summary(samples)}

    machine = report["machine"]
    print(f"{report['model']}, {args.threads} threads, {machine['cpu']}, {' '.join(machine['isa'])}"
          + (f"; fovea runs {report['fovea_isa']}" if report["fovea_isa"] else ""))
    print(f"{'test':26}{'engine':22}{'tokens/s':>10}{'range':>20}{'peak MiB':>10}{'fovea is':>10}")
    for r in report["rows"]:
        ratio = f"{r['fovea_ratio']:.2f}x" if "fovea_ratio" in r else ""
        print(f"{r['test']:26}{r['engine']:22}{r['tokens_per_second']:10.1f}{r['min']:11.1f} -{r['max']:7.1f}"
              f"{r['peak_rss_bytes'] / 2**20:10.0f}{ratio:>10}")
    if args.json:
        Path(args.json).write_text(json.dumps(report, indent=1) + "\n")
    return 1 if report["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
