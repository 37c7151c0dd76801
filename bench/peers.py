#!/usr/bin/env python3
"""Speed of Fovea beside its peers, on this machine, now: same file, threads, prompt and depth, in alternation.

  IK_LLAMA_BENCH=... LLAMA_BENCH=... python3 bench/peers.py -m MODEL.gguf --json OUT.json
  python3 bench/peers.py -m MODEL.gguf -p 512,1k,4k,8k,16k,32k -d 0,4k,16k --quality TEXT

Peers are the llama-bench programs of llama.cpp (flash attention off and on: on is far slower at depth) and
ik_llama.cpp (run-time repacking off and on), of which the better median stands for the engine test by test, and
xllamacpp, a packaged llama.cpp driven through its server, if this Python has it. Prompt speed is at depth 0; decode
speed is after a prompt of each depth. Each number comes from a fresh process that warms up before it times, the
engines take turns within a round, so drift of the machine hits all of them, and one that fails at a length loses
that length only. Medians and ranges over the rounds; what is measured so far is in OUT.json after every process.

First token: from the start of a process to the first byte of its answer to six tokens, the file in the system's
cache, by `fovea run` and by the peers' llama-cli (found beside llama-bench, or IK_LLAMA_CLI=, LLAMA_CLI=), which run
without their warm-up and with a context of 512.

Speed says nothing about the answer: read it with --quality, or bench/quality.py. ik_llama.cpp 8337e4cd3 built
natively on an AVX-512 Xeon gives perplexity 96.2 on a Q4_1 SmolLM2-135M in batches of 512 (llama.cpp 17.9; itself,
token by token, 17.8), so its prefill there is not the same work.
"""
import argparse
import importlib.util
import json
import os
import re
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import result  # noqa: E402  (its folder is not on the path of who imports this file)

FIRST_TOKEN_PROMPT = "Hello, who are you?"


class Run:
    """A finished process: what it printed, its peak memory, and the seconds to its first byte of output."""

    def __init__(self, command):
        command = [str(c) for c in command]
        # In a folder of its own: ik_llama.cpp leaves a log where it runs.
        with tempfile.TemporaryFile("w+", errors="replace") as err, tempfile.TemporaryDirectory() as folder:
            start = time.monotonic()
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=err, cwd=folder)
            out, self.first = b"", None
            while part := os.read(child.stdout.fileno(), 1 << 16):
                self.first = self.first or time.monotonic() - start
                out += part
            _, status, usage = os.wait4(child.pid, 0)
            self.first = self.first or time.monotonic() - start
            child.returncode = os.waitstatus_to_exitcode(status)
            err.seek(0)
            self.out, self.err, self.peak = out.decode(errors="replace"), err.read(), usage.ru_maxrss * 1024
        if child.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: exit {child.returncode}\n{self.err[-2000:]}")


# A test is (n_prompt, n_gen, depth); FIRST is the first token. An engine gives (value, peak bytes): tokens per second,
# or seconds for FIRST.
FIRST = (0, 1, -1)


def fovea(args, test):
    n_prompt, n_gen, depth = test
    if test == FIRST:
        done = Run([args.fovea, "run", "-m", args.model, FIRST_TOKEN_PROMPT, "--raw", "-n", 1, "--temp", 0,
                    "-t", args.threads])
        return done.first, done.peak
    done = Run([args.fovea, "bench", "-m", args.model, "-p", n_prompt, "-n", n_gen, "-d", depth, "-r", 1,
                "-t", args.threads, *args.fovea_args.split(), "-q", "--json"])
    answer = json.loads(done.out)
    args.isa["fovea"] = answer.get("isa")
    row = answer["rows"][0]
    return row["tokens_per_second"], row.get("peak_rss_bytes", 0)


def peer_first_token(args, name, program, flags):
    if not program:
        return None
    done = Run([program, "-m", args.model, "-p", FIRST_TOKEN_PROMPT, "-n", 1, "--temp", 0, "-c", 512, "--no-warmup",
                "--no-display-prompt", "-t", args.threads, *flags])
    info = re.search(r"system_info:.*", done.err)
    if info:
        args.isa[name] = " ".join(re.findall(r"(\w+) = 1\b", info.group()))
    return done.first, done.peak


def llama(flash):
    def bench(args, test):
        n_prompt, n_gen, depth = test
        if test == FIRST:
            return peer_first_token(args, "llama.cpp", args.llama_cli, ["-no-cnv", "-fa", "on" if flash else "off"])
        done = Run([args.llama, "-m", args.model, "-t", args.threads, "-fa", flash, "-r", 1, "-o", "json",
                    "-p", n_prompt, "-n", n_gen, "-d", depth])
        return json.loads(done.out)[0]["avg_ts"], done.peak
    return bench


def ik(repack):
    def bench(args, test):
        n_prompt, n_gen, depth = test
        if test == FIRST:
            return peer_first_token(args, "ik_llama.cpp", args.ik_cli, ["-rtr"] if repack else [])
        shape = ["-p", n_prompt, "-n", n_gen]
        if depth:  # it knows no -d: a prompt and its continuation, of which the speed of the latter counts
            shape = ["-p", 0, "-n", 0, "-gp", f"{depth},{n_gen}"]
        done = Run([args.ik, "-m", args.model, "-t", args.threads, "-fa", 1, "-r", 1, "-rtr", repack, "-o", "json",
                    *shape])
        return json.loads(done.out)[0]["avg_ts"], done.peak
    return bench


def trained_context(model):
    """Where a GGUF file says what context its model was trained for, and what it says."""
    with open(model, "rb") as file:
        head = file.read(1 << 20)
    found = re.search(rb"[a-z0-9_-]+\.context_length\x04\0\0\0", head)  # a key and its type, uint32
    return (found.end(), struct.unpack_from("<I", head, found.end())[0]) if found else (None, 1 << 32)


def xllamacpp(args, test):
    if test == FIRST:
        return None  # the start of a Python process says nothing of the engine
    n_prompt, n_gen, depth = test
    context = n_prompt + depth + n_gen + 64
    at, trained = trained_context(args.model)
    with tempfile.TemporaryDirectory() as scratch:
        model = args.model
        if context > trained:  # the server would cut the prompt: show it a file that says otherwise
            model = Path(scratch) / Path(args.model).name
            shutil.copyfile(args.model, model)
            with open(model, "r+b") as file:
                file.seek(at)
                file.write(struct.pack("<I", context))
        done = Run([args.xllamacpp, os.path.abspath(__file__), "--xllamacpp-worker", json.dumps(test), "-m", model,
                    "-t", args.threads])
    return json.loads(done.out.splitlines()[-1]), done.peak


def xllamacpp_worker(args):
    import xllamacpp as x
    n_prompt, n_gen, depth = json.loads(args.xllamacpp_worker)
    params = x.CommonParams()
    params.model.path, params.n_ctx = args.model, n_prompt + depth + n_gen + 64
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
        if "timings" not in answer:
            raise RuntimeError(f"the server's answer: {str(answer)[:500]}")
        return answer["timings"]

    timings(32, 4)
    if n_prompt:
        speed = timings(n_prompt, 1)["prompt_per_second"]
    else:
        speed = timings(max(depth, 1), n_gen)["predicted_per_second"]
    print("\n" + json.dumps(speed), flush=True)
    os._exit(0)  # the server's threads would outlive the answer


def label(test):
    n_prompt, n_gen, depth = test
    if test == FIRST:
        return "first token"
    return f"prefill {n_prompt}" if n_prompt else f"decode {n_gen} at depth {depth}"


def summary(samples, tests):
    """{engine: {test: [(value, bytes), ...]}} to rows, one per test and engine: the best of an engine's settings."""
    rows = []
    for test in tests:
        unit = "seconds" if test == FIRST else "tokens_per_second"
        entries = []
        for engine, taken in samples.items():
            if test in taken:
                values = [v for v, _ in taken[test]]
                entries.append({"engine": engine, "test": label(test), "n_prompt": test[0], "n_gen": test[1],
                                "depth": test[2], unit: statistics.median(values), "min": min(values),
                                "max": max(values), "samples": values, "peak_rss_bytes": max(b for _, b in taken[test])})
        best = {}
        for e in sorted(entries, key=lambda e: e[unit], reverse=test == FIRST):
            best[e["engine"].split(" ")[0]] = e
        rows += [e for e in entries if e in best.values()]
        mine = [r for r in rows if r["test"] == label(test) and r["engine"] == "fovea"]
        for row in rows:
            if mine and row["test"] == label(test) and row["engine"] != "fovea":
                ratio = mine[0][unit] / row[unit]
                row["fovea_ratio"] = 1 / ratio if test == FIRST else ratio  # above 1: Fovea is the faster one
    return rows


def table(rows):
    lines = ["| test | engine | median | range | peak MiB | Fovea is |", "|---|---|---|---|---|---|"]
    for r in rows:
        value, scale, unit = (r["seconds"], 1e3, "ms") if "seconds" in r else (r["tokens_per_second"], 1, "t/s")
        ratio = f"{r['fovea_ratio']:.2f}x as fast" if "fovea_ratio" in r else ""
        lines.append(f"| {r['test']} | {r['engine']} | {value * scale:.1f} {unit} | {r['min'] * scale:.1f} - "
                     f"{r['max'] * scale:.1f} | {r['peak_rss_bytes'] / 2**20:.0f} | {ratio} |")
    return "\n".join(lines)


def quality(args):
    """Rows of bench/quality.py, where the peers' llama-perplexity are in LLAMA_PERPLEXITY and IK_LLAMA_PERPLEXITY."""
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        command = [sys.executable, Path(__file__).with_name("quality.py"), "-m", args.model, "-f", args.quality,
                   "--chunks", args.quality_chunks, "-t", args.threads, "--json", out.name]
        if args.fovea:
            command += ["--fovea", args.fovea]
        # Ends with 1 for a larger divergence too, which is shown.
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
        report = Path(out.name).read_text()
        if not report:
            raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr else "quality.py said nothing")
        return json.loads(report)["rows"]


def keep(path, report):
    if path:
        result.keep(path, report)


def earlier(path, report, samples):
    """What an earlier run of the same model, machine and commit measured, to go on from."""
    before = json.loads(Path(path).read_text())
    for key in ("benchmark", "kind", "commit", "models", "threads"):
        if before.get(key) != report[key]:
            sys.exit(f"{path}: {key} is {before.get(key)}, here it is {report[key]}; give another file")
    if before["command"] != report["command"]:
        report["command"] = f"{before['command']}; {report['command']}"
    report["isa"].update(before["isa"])
    for name, test, taken in before["samples"]:
        samples.setdefault(name, {})[tuple(test)] = [tuple(sample) for sample in taken]
    return samples, list(dict.fromkeys(tuple(test) for _, test, _ in before["samples"]))


def number(text):
    return int(text[:-1]) * 1024 if text.endswith("k") else int(text)


def numbers(text):
    return [number(v) for v in text.split(",") if v]


def beside(bench, *names):
    """A program in the folder of another one."""
    found = [p for n in names if bench and (p := Path(bench).with_name(n)).is_file()]
    return str(found[0]) if found else None


def parse():
    env = os.environ.get
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-p", "--prompt", type=numbers, default=[512, 4096], help="as in 512,1k,4k; '' for none")
    parser.add_argument("-n", "--gen", type=int, default=64, help="tokens to decode")
    parser.add_argument("-d", "--depth", type=numbers, default=[0, 8192], help="as in 0,4k,16k; '' for none")
    parser.add_argument("-t", "--threads", type=int, default=os.cpu_count())
    parser.add_argument("-r", "--rounds", type=int, default=3)
    parser.add_argument("--first-token", type=int, default=5, metavar="TIMES", help="processes per round; 0: none")
    built = Path(__file__).resolve().parent.parent / "build" / "fovea"
    parser.add_argument("--fovea", default=env("FOVEA") or (str(built) if built.is_file() else None),
                        help="the fovea program; default: FOVEA=, or build/fovea")
    parser.add_argument("--commit", help="what the program was built from; default: this checkout")
    parser.add_argument("--fovea-args", default="", help="more flags for fovea bench")
    parser.add_argument("--llama", default=env("LLAMA_BENCH"), help="llama.cpp's llama-bench; default: LLAMA_BENCH=")
    parser.add_argument("--llama-cli", default=env("LLAMA_CLI"), help="its llama-completion or llama-cli")
    parser.add_argument("--ik", default=env("IK_LLAMA_BENCH"), help="ik_llama.cpp's; default: IK_LLAMA_BENCH=")
    parser.add_argument("--ik-repack", choices=("both", "0", "1"), default="both", help="which of its -rtr to run")
    parser.add_argument("--ik-cli", default=env("IK_LLAMA_CLI"), help="its llama-cli")
    here = sys.executable if importlib.util.find_spec("xllamacpp") else None
    parser.add_argument("--xllamacpp", nargs="?", const=sys.executable, default=env("XLLAMACPP_PYTHON", here),
                        help="a Python that has xllamacpp; default: this one, if it has; '' for none")
    parser.add_argument("--quality", metavar="TEXT", help="measure the divergence from exact arithmetic on it as well")
    parser.add_argument("--quality-chunks", type=int, default=12, help="windows of it")
    parser.add_argument("-o", "--json", help="where to keep everything measured, in the form of bench/result.py")
    parser.add_argument("--add", action="store_true", help="to what --json holds already: runs of a minute each")
    parser.add_argument("--xllamacpp-worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.llama_cli = args.llama_cli or beside(args.llama, "llama-completion", "llama-cli")
    args.ik_cli = args.ik_cli or beside(args.ik, "llama-cli")
    args.isa = {}
    for name in ("model", "quality", "fovea", "llama", "llama_cli", "ik", "ik_cli"):  # each runs in a folder of its own
        if value := getattr(args, name):
            setattr(args, name, os.path.abspath(value) if os.path.exists(value) else value)
    if not (args.fovea or args.llama or args.ik or args.xllamacpp or args.xllamacpp_worker):
        parser.error("nothing to run: give --fovea, --llama, --ik or --xllamacpp")
    return args


def main():
    args = parse()
    if args.xllamacpp_worker:
        return xllamacpp_worker(args)
    engines = {name: bench for name, bench, wanted in (
        ("fovea", fovea, args.fovea), ("ik_llama.cpp -rtr 0", ik(0), args.ik and args.ik_repack != "1"),
        ("ik_llama.cpp -rtr 1", ik(1), args.ik and args.ik_repack != "0"),
        ("llama.cpp -fa 0", llama(0), args.llama), ("llama.cpp -fa 1", llama(1), args.llama),
        ("xllamacpp", xllamacpp, args.xllamacpp)) if wanted}
    tests = [(p, 0, 0) for p in args.prompt] + [(0, args.gen, d) for d in args.depth]
    report = result.head("peers", ["python3", *sys.argv], [args.model])
    report |= {"commit": args.commit or report["commit"], "model": Path(args.model).name,
               "model_bytes": Path(args.model).stat().st_size, "threads": args.threads, "rounds": args.rounds,
               "load_before": os.getloadavg(), "isa": args.isa, "failed": {}, "rows": []}
    if args.first_token:
        tests.insert(0, FIRST)
    samples = {name: {} for name in engines}
    if args.add and args.json and Path(args.json).is_file():
        samples, tests_before = earlier(args.json, report, samples)
    else:
        tests_before = []
    shown = tests_before + [test for test in tests if test not in tests_before]
    for round_ in range(args.rounds):
        for test in tests:
            for _ in range(args.first_token if test == FIRST else 1):
                for name, bench in engines.items():
                    if label(test) in report["failed"].get(name, {}):
                        continue
                    print(f"round {round_ + 1} of {args.rounds}, {label(test)}: {name}", file=sys.stderr)
                    try:
                        if (taken := bench(args, test)) is not None:
                            samples[name].setdefault(test, []).append(taken)
                    except (RuntimeError, OSError, LookupError, ValueError) as problem:  # the rest still counts
                        report["failed"].setdefault(name, {})[label(test)] = str(problem)
                        print(f"{name} failed: {problem}", file=sys.stderr)
                    report |= {"load_after": os.getloadavg(), "rows": summary(samples, shown),
                               "samples": [[name, test, taken] for name, of in samples.items()
                                           for test, taken in of.items()]}
                    keep(args.json, report)

    machine = report["machine"]
    print(f"{report['model']}, {args.threads} threads, {machine['cpu']}, {machine['cores']} cores, "
          f"{' '.join(machine['isa'])}")
    for engine, isa in args.isa.items():
        print(f"{engine} runs {isa}")
    print("\n" + table(report["rows"]))
    for engine, failed in report["failed"].items():
        print(f"\n{engine} failed: {', '.join(failed)}")
    if args.quality:
        print(f"\nDivergence from exact arithmetic, {Path(args.quality).name}:\n")
        try:
            report["quality"] = quality(args)
            print("| engine | settings | mean KL | same top 1 |\n|---|---|---|---|")
            for r in report["quality"]:
                print(f"| {r['engine']} | {r['settings']} | {r['mean_kl']:.6f} | {r['top1_agreement']:.4f} |")
        except (RuntimeError, OSError, LookupError, ValueError) as problem:
            report["failed"]["quality"] = str(problem)
            print(f"failed: {problem}")
        keep(args.json, report)
    return 1 if report["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
