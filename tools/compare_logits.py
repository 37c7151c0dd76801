#!/usr/bin/env python3
"""Compares every logit of a prompt with `transformers` on the same file: largest difference, KL, top-1 agreement.

  python3 tools/compare_logits.py -m MODEL --fovea build/fovea -f TEXT [--numerics exact] [--max-abs 1e-3]
  python3 tools/compare_logits.py -m MODEL --logits OUT.npy --tokens TOKENS.json

The first runs `fovea logits` itself; the second takes what it wrote (--tokens is its --json answer, or a plain
list of ids). Exits 1 when a limit that was given is passed. The KL divergence is of Fovea from the oracle.
"""
import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

import reference


def run_fovea(args, path, out):
    command = [args.fovea, "logits", "-m", path, "-f", args.file, "-o", out, "--numerics", args.numerics, "-q", "--json"]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def ids_of(answer):
    tokens = answer["tokens"] if isinstance(answer, dict) else answer
    return [t["id"] if isinstance(t, dict) else int(t) for t in tokens]


@torch.inference_mode()
def compare(model, ids, logits, chunk):
    """Row by row in chunks of tokens, so that a long prompt does not need its whole table twice."""
    from transformers import DynamicCache
    cache = DynamicCache(config=model.config)
    worst, worst_at, kl, same = 0.0, 0, [], 0
    for start in range(0, len(ids), chunk):
        theirs = model(torch.tensor([ids[start:start + chunk]]), past_key_values=cache).logits[0]
        mine = torch.from_numpy(np.ascontiguousarray(logits[start:start + chunk]))
        by_row = (mine - theirs).abs().amax(1)
        if not torch.isfinite(by_row).all():
            raise SystemExit(f"row {start + int((~torch.isfinite(by_row)).nonzero()[0, 0])} is not finite")
        if by_row.max() > worst:
            worst, worst_at = float(by_row.max()), start + int(by_row.argmax())
        p, q = theirs.double().log_softmax(1), mine.double().log_softmax(1)
        kl += (p.exp() * (p - q)).sum(1).tolist()
        same += int((theirs.argmax(1) == mine.argmax(1)).sum())
    return {"n_tokens": len(ids), "max_abs": worst, "max_abs_at": worst_at, "mean_kl": float(np.mean(kl)),
            "max_kl": max(kl), "top1_agreement": same / len(ids)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--model", required=True, help="name in the store, or path")
    parser.add_argument("--fovea", help="the fovea program; needs -f")
    parser.add_argument("-f", "--file", help="text of the prompt")
    parser.add_argument("--numerics", default="exact", choices=["fast", "exact"])
    parser.add_argument("--logits", help="float32 [n_tokens, vocab_size] .npy; needs --tokens")
    parser.add_argument("--tokens", help="JSON with the token ids")
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("--chunk", type=int, default=256)
    parser.add_argument("--max-abs", type=float, help="largest difference allowed in any logit")
    parser.add_argument("--max-kl", type=float, help="largest mean KL divergence allowed")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    args = parser.parse_args()
    if not (args.fovea and args.file) and not (args.logits and args.tokens):
        parser.error("give --fovea and -f, or --logits and --tokens")

    path = reference.find_model(args.model)
    with tempfile.TemporaryDirectory() as scratch:
        table = Path(args.logits or Path(scratch) / "logits.npy")
        ids = ids_of(run_fovea(args, path, table) if args.fovea else json.loads(Path(args.tokens).read_text()))
        logits = np.load(table, mmap_mode="r")
        model = reference.load(path, args.threads)
        wanted = (len(ids), model.config.vocab_size)
        if logits.shape != wanted or logits.dtype != np.float32:
            raise SystemExit(f"{table}: {logits.dtype} {list(logits.shape)} where float32 {list(wanted)} is due")
        result = {"model": path.stem, **compare(model, ids, logits, args.chunk)}

    passed = all(limit is None or result[key] <= limit
                 for key, limit in (("max_abs", args.max_abs), ("mean_kl", args.max_kl)))
    if args.json:
        print(json.dumps(result | {"passed": passed}))
    else:
        print(f"{result['model']}: {result['n_tokens']} tokens, largest difference {result['max_abs']:.3g} at token "
              f"{result['max_abs_at']}, mean KL {result['mean_kl']:.3g} (largest {result['max_kl']:.3g}), same top 1 "
              f"{result['top1_agreement']:.4f}{'' if passed else ': FAILED'}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
