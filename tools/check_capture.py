"""Runs `fovea capture` and reads the file with the safetensors package: every tensor is there, and the reduced
patterns are those of the full ones. Needs numpy and safetensors; nothing in the build or the tests does.

  python3 tools/check_capture.py [-m smollm2-135m] [--fovea build/fovea]
"""
import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from safetensors import safe_open

TEXT = "The quick brown fox jumps over the lazy dog, and the quick brown cat watches the lazy dog. " * 4


def capture(args, out, *more):
    done = subprocess.run([args.fovea, "capture", "-m", args.model, "--numerics", "exact", "-q", "--json", "-b", "24", "-o", out, TEXT, *more],
                          capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    with safe_open(out, framework="numpy") as f:
        tensors = {name: f.get_tensor(name) for name in f.keys()}
        metadata = f.metadata()
    assert set(tensors) == {h["name"] for h in answer["hooks"]}, "names differ"
    for h in answer["hooks"]:
        assert list(tensors[h["name"]].shape) == h["shape"], h
        assert {"F32": np.float32, "I32": np.int32}[h["dtype"]] == tensors[h["name"]].dtype, h
    return tensors, metadata


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--model", default="smollm2-135m")
    parser.add_argument("--fovea", default="build/fovea")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "x.safetensors")
        everything, metadata = capture(args, out, "--hooks", "*")
        n = len(json.loads(metadata["tokens"]))
        print(f"{args.model}: {n} tokens, {len(everything)} tensors, {sum(t.nbytes for t in everything.values()) / 1e6:.1f} MB read back")
        name = next(k for k in everything if k.endswith("attn.hook_pattern"))
        p = everything[name].astype(np.float64)
        scores = everything[name.replace("pattern", "attn_scores")].astype(np.float64)
        e = np.exp(scores - scores.max(-1, keepdims=True))
        assert np.abs(e / e.sum(-1, keepdims=True) - p).max() < 1e-5, "the pattern is not the softmax of the scores"
        i, j = np.arange(n)[:, None], np.arange(n)[None]
        want = {"entropy": -(p * np.log(np.maximum(p, 1e-300))).sum(-1), "sink:3": p[..., :3].sum(-1), "rowsum": p.sum(-1),
                "local:5": (p * ((j <= i) & (j > i - 5))).sum(-1), "max": p.max(-1)}
        for reduce, expected in want.items():
            mine, _ = capture(args, out, "--hooks", "*pattern", "--reduce", reduce)
            worst = np.abs(mine[f"{name}.{reduce.split(':')[0]}"] - expected).max()
            assert worst < 2e-5, (reduce, worst)
            print(f"{reduce}: within {worst:.1g}")
        mine, _ = capture(args, out, "--hooks", "*pattern", "--reduce", "topk:4")
        assert np.allclose(mine[name + ".topk"], -np.sort(-p, -1)[..., :4], atol=1e-7)
        at = mine[name + ".topk_positions"]
        assert np.allclose(np.take_along_axis(p, np.maximum(at, 0), -1) * (at >= 0), mine[name + ".topk"], atol=1e-7)
        mine, _ = capture(args, out, "--hooks", "*pattern", "--reduce", "block:16")
        blocks = (n + 15) // 16
        padded = np.zeros((p.shape[0], blocks * 16, blocks * 16))
        padded[:, :n, :n] = p
        sums = padded.reshape(-1, blocks, 16, blocks, 16).sum((2, 4))
        assert np.abs(mine[name + ".block"] - sums).max() < 1e-4
        print("topk, block: equal")


main()
