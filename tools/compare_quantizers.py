#!/usr/bin/env python3
"""How far quantised models are from the one they were made of: `fovea quantize` beside llama.cpp's `llama-quantize`.

    pip install numpy
    python3 tools/compare_quantizers.py -m MODEL.gguf -f TEXT --llama LLAMA_QUANTIZE --types q4_0 q4_k iq4_nl

For each type: bytes, and the mean over the tokens of TEXT (its first 4,000 bytes) of KL(original || quantised) in nats,
both in float32. With --importance both use weights of that file (from `fovea importance` or llama.cpp). Both keep
the same types of tensors: --pure, with the embedding's and the output's type taken from what fovea wrote.
"""
import argparse
import json
import pathlib
import subprocess
import tempfile

import numpy as np


def run(*command):
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True).stdout


def log_probabilities(fovea, model, text, folder):
    out = folder / "logits.npy"
    run(fovea, "logits", "-m", model, "-f", text, "-o", out, "--numerics", "exact", "-q")
    logits = np.load(out).astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


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
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        text = folder / "text"
        text.write_bytes(pathlib.Path(args.file).read_bytes()[:4000])
        base = folder / "base.gguf"
        run(args.fovea, "quantize", args.model, base, "--type", "f32", "-q")
        reference = log_probabilities(args.fovea, base, text, folder)
        weights = ["--importance", args.importance] if args.importance else []
        llama_weights = ["--imatrix", args.importance] if args.importance else []
        print("| type | bytes | mean KL | llama.cpp bytes | mean KL |\n|---|---|---|---|---|")
        for kind in args.types:
            ours, theirs = folder / "ours.gguf", folder / "theirs.gguf"
            made = json.loads(run(args.fovea, "quantize", base, ours, "--type", kind, *weights, "--json", "-q"))
            line = f"| {kind} | {made['bytes']} | {mean_kl(reference, log_probabilities(args.fovea, ours, text, folder)):.5f} |"
            if args.llama:
                shown = json.loads(run(args.fovea, "show", ours, "--json"))
                types = {t["name"]: t["dtype"].lower() for t in shown["tensors"]}
                same = ["--token-embedding-type", types["token_embd.weight"]]
                same += ["--output-tensor-type", types.get("output.weight", types["token_embd.weight"])]
                run(args.llama, "--pure", *llama_weights, *same, base, theirs, kind)
                kl = mean_kl(reference, log_probabilities(args.fovea, theirs, text, folder))
                line += f" {theirs.stat().st_size} | {kl:.5f} |"
                theirs.unlink()
            else:
                line += " | |"
            print(line, flush=True)
            ours.unlink()


if __name__ == "__main__":
    main()
