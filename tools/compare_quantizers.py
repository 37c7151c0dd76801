#!/usr/bin/env python3
"""How far quantised models are from the one they were made of: `fovea quantize` beside llama.cpp's `llama-quantize`.

    pip install numpy
    python3 tools/compare_quantizers.py -m MODEL.gguf -f TEXT --llama LLAMA_QUANTIZE --types q4_0 q4_k iq4_nl

For each type: bytes, and the mean over the tokens of --windows parts of TEXT of KL(original || quantised) in nats, both
in float32. With --importance both use weights of that file (from `fovea importance` or llama.cpp). Both keep the same
types of tensors: --pure, with the embedding's and the output's type taken from what fovea wrote.

Weights that were quantised before lie on a grid, which a type with the same blocks finds again: its KL then says nothing of
other models. --dither moves each by a random part of half its block's step, so that they are as weights that were
rounded to that grid may have been, and compares with the model that this gives. Needs the `gguf` package.

The KL of one model says little: it is a few tokens' and one draw of errors. With several seeds the ratio is the geometric
mean of those of the seeds, both programs on the same model each time; its error is one standard error, as a factor. -o
keeps the result as bench/results/ has it.
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

WINDOW_BYTES = 2000


def run(*command):
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True).stdout


def log_probabilities(fovea, model, text, folder):
    out = folder / "logits.npy"
    run(fovea, "logits", "-m", model, "-f", text, "-o", out, "--numerics", "exact", "-q")
    logits = np.load(out)
    logits -= logits.max(axis=1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True, dtype=np.float64)).astype(np.float32)
    return logits


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


def mean_kl(pairs):
    return float(np.mean(np.concatenate([np.einsum("tv,tv->t", np.exp(p), p - q) for p, q in pairs])))


def pairs_of(ours, theirs):
    """The ratio of two programs over the same models, its standard error as a factor, and how often the first is nearer."""
    logs = np.log(np.array(ours) / np.array(theirs))
    error = float(np.exp(logs.std(ddof=1) / np.sqrt(len(logs)))) if len(logs) > 1 else None
    return {"ratio": float(np.exp(logs.mean())), "error": error, "nearer": int((logs < 0).sum()), "of": len(logs)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-f", "--file", required=True)
    parser.add_argument("--fovea", default="build/fovea")
    parser.add_argument("--llama", help="llama-quantize; without it only fovea is measured")
    parser.add_argument("--types", nargs="+", default=["q8_0", "q5_0", "q4_0", "iq4_nl"])
    parser.add_argument("--importance")
    parser.add_argument("--dither", type=int, nargs="+", metavar="SEED")
    parser.add_argument("--windows", type=int, default=2, help=f"parts of {WINDOW_BYTES:,} bytes, spread over the text")
    parser.add_argument("-o", "--output")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        bytes_of_text = pathlib.Path(args.file).read_bytes()
        texts = []
        for begin in np.linspace(0, max(0, len(bytes_of_text) - WINDOW_BYTES), args.windows).astype(int):
            texts.append(folder / f"text{len(texts)}")
            texts[-1].write_bytes(bytes_of_text[begin:begin + WINDOW_BYTES].decode(errors="ignore").encode())
        weights = ["--importance", args.importance] if args.importance else []
        llama_weights = ["--imatrix", args.importance] if args.importance else []
        base, ours, theirs = folder / "base.gguf", folder / "ours.gguf", folder / "theirs.gguf"
        kl = {kind: ([], []) for kind in args.types}
        sizes = {}
        for seed in args.dither or [None]:
            run(args.fovea, "quantize", args.model, base, "--type", "f32", "-q")
            if seed is not None:
                dither(base, seed)
            reference = [log_probabilities(args.fovea, base, text, folder) for text in texts]

            def kl_of(model):
                return mean_kl((p, log_probabilities(args.fovea, model, t, folder)) for p, t in zip(reference, texts))

            for kind in args.types:
                made = json.loads(run(args.fovea, "quantize", base, ours, "--type", kind, *weights, "--json", "-q"))
                sizes[kind] = [made["bytes"]]
                kl[kind][0].append(kl_of(ours))
                if args.llama:
                    shown = json.loads(run(args.fovea, "show", ours, "--json"))
                    types = {t["name"]: t["dtype"].lower() for t in shown["tensors"]}
                    same = ["--token-embedding-type", types["token_embd.weight"]]
                    same += ["--output-tensor-type", types.get("output.weight", types["token_embd.weight"])]
                    run(args.llama, "--pure", *llama_weights, *same, base, theirs, kind)
                    sizes[kind].append(theirs.stat().st_size)
                    kl[kind][1].append(kl_of(theirs))
                    theirs.unlink()
                ours.unlink()
                print(f"seed {seed}, {kind}:", *(f"{found[-1]:.5f}" for found in kl[kind] if found), file=sys.stderr,
                      flush=True)
            base.unlink()
    rows = []
    print("| type | bytes | mean KL | llama.cpp bytes | mean KL | ratio | nearer |\n|---|---|---|---|---|---|---|")
    for kind, (mine, others) in kl.items():
        rows.append({"type": kind, "bytes": sizes[kind][0], "mean_kl": float(np.mean(mine))})
        line = f"| {kind} | {sizes[kind][0]} | {np.mean(mine):.5f} |"
        if others:
            rows[-1] |= {"llama.cpp_bytes": sizes[kind][1], "llama.cpp_mean_kl": float(np.mean(others)),
                         **pairs_of(mine, others)}
            row = rows[-1]
            error = f" (x/ {row['error']:.2f})" if row["error"] else ""
            line += f" {sizes[kind][1]} | {np.mean(others):.5f} | {row['ratio']:.3f}{error} | {row['nearer']} of {row['of']} |"
        else:
            line += " | | | |"
        print(line)
    if args.output:
        head = result.head("quantizers", ["tools/compare_quantizers.py", *sys.argv[1:]], [args.model])
        result.keep(args.output, {**head, "rows": rows})


if __name__ == "__main__":
    main()
