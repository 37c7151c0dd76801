#!/usr/bin/env python3
"""How far quantised models are from the one they were made of: `fovea quantize` beside llama.cpp's `llama-quantize`.

    pip install numpy
    python3 tools/compare_quantizers.py -m MODEL.gguf -f TEXT --llama LLAMA_QUANTIZE --types q4_0 q4_k iq4_nl

For each type: bytes, and the mean over the tokens of TEXT (its first 4,000 bytes) of KL(original || quantised) in nats,
both in float32. With --importance both use weights of that file (from `fovea importance` or llama.cpp). Both keep
the same types of tensors: --pure, with the embedding's and the output's type taken from what fovea wrote.

Weights that were quantised before lie on a grid, which a type with the same blocks finds again: its KL then says nothing of
other models. --dither moves each by a random part of half its block's step, so that they are as weights that were
rounded to that grid may have been, and compares with the model that this gives. Needs the `gguf` package. -o keeps the
result as bench/results/ has it.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "bench"))
import result  # noqa: E402


def run(*command):
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True).stdout


def log_probabilities(fovea, model, text, folder):
    out = folder / "logits.npy"
    run(fovea, "logits", "-m", model, "-f", text, "-o", out, "--numerics", "exact", "-q")
    logits = np.load(out).astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def dither(path, seed):
    """Matrices of a float32 file, in place; the step is the least distance of two numbers among 32."""
    import gguf
    random = np.random.default_rng(seed)
    for t in gguf.GGUFReader(path, "r+").tensors:
        if len(t.shape) != 2 or t.shape[0] % 32:
            continue
        rows = t.data.reshape(-1, 32)
        for begin in range(0, len(rows), 1 << 16):
            part = rows[begin:begin + (1 << 16)]
            apart = np.diff(np.sort(part, axis=1), axis=1)
            apart[apart < 1e-5 * np.abs(part).max(axis=1, keepdims=True)] = np.inf
            step = apart.min(axis=1, keepdims=True)
            step[~np.isfinite(step)] = 0
            part += (step * random.uniform(-0.5, 0.5, part.shape)).astype(np.float32)


def mean_kl(p, q):
    return float(np.mean(np.sum(np.exp(p) * (p - q), axis=1)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-f", "--file", required=True)
    parser.add_argument("--fovea", default="build/fovea")
    parser.add_argument("--llama", help="llama-quantize; without it only fovea is measured")
    parser.add_argument("--types", nargs="+", default=["q8_0", "q5_0", "q4_0", "iq4_nl"])
    parser.add_argument("--importance")
    parser.add_argument("--dither", type=int, metavar="SEED")
    parser.add_argument("-o", "--output")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        text = folder / "text"
        text.write_bytes(pathlib.Path(args.file).read_bytes()[:4000])
        base = folder / "base.gguf"
        run(args.fovea, "quantize", args.model, base, "--type", "f32", "-q")
        if args.dither is not None:
            dither(base, args.dither)
        reference = log_probabilities(args.fovea, base, text, folder)
        weights = ["--importance", args.importance] if args.importance else []
        llama_weights = ["--imatrix", args.importance] if args.importance else []
        rows = []
        print("| type | bytes | mean KL | llama.cpp bytes | mean KL |\n|---|---|---|---|---|")
        for kind in args.types:
            ours, theirs = folder / "ours.gguf", folder / "theirs.gguf"
            made = json.loads(run(args.fovea, "quantize", base, ours, "--type", kind, *weights, "--json", "-q"))
            kl = mean_kl(reference, log_probabilities(args.fovea, ours, text, folder))
            rows.append({"type": kind, "bytes": made["bytes"], "mean_kl": kl})
            line = f"| {kind} | {made['bytes']} | {kl:.5f} |"
            if args.llama:
                shown = json.loads(run(args.fovea, "show", ours, "--json"))
                types = {t["name"]: t["dtype"].lower() for t in shown["tensors"]}
                same = ["--token-embedding-type", types["token_embd.weight"]]
                same += ["--output-tensor-type", types.get("output.weight", types["token_embd.weight"])]
                run(args.llama, "--pure", *llama_weights, *same, base, theirs, kind)
                kl = mean_kl(reference, log_probabilities(args.fovea, theirs, text, folder))
                rows[-1] |= {"llama.cpp_bytes": theirs.stat().st_size, "llama.cpp_mean_kl": kl, "ratio": rows[-1]["mean_kl"] / kl}
                line += f" {theirs.stat().st_size} | {kl:.5f} |"
                theirs.unlink()
            else:
                line += " | |"
            print(line, flush=True)
            ours.unlink()
    if args.output:
        head = result.head("quantizers", ["tools/compare_quantizers.py", *sys.argv[1:]], [args.model])
        result.keep(args.output, {**head, "rows": rows})


if __name__ == "__main__":
    main()
