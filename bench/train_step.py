#!/usr/bin/env python3
"""The training steps of bench/train_step.cc in PyTorch (eager and torch.compile, float32), and the ratio of the two.

    bench/train_step.py --bench build/bench_train_step [--threads 2] [--rounds 3] [--no-compile] [--json] [CASE ...]

Needs torch and a C++ compiler for torch.compile. Prints the steps in milliseconds, how many times faster Fovea is than
the faster of the two, and the peak of memory: each number is of a process of its own, PyTorch's of its faster way.
"""
import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    sys.exit(f"{__doc__}\ntrain_step.py: this Python has no torch: pip install torch")

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
from training_twins import LOSSES

CASES = ["llama-128", "llama-256", "llama-512", "vit", "unet"]
LAYERS, VOCAB, TOKENS, PICTURES = 4, 4096, 1024, 32


def llama(p, net, batch):
    d, tokens = p["norm"].shape[0], batch["tokens"]
    heads = d // net["head_dim"]

    def rope(x):
        a, b = x.chunk(2, dim=-1)
        return torch.cat((a * batch["cos"] - b * batch["sin"], a * batch["sin"] + b * batch["cos"]), dim=-1)

    def split(x):
        return x.view(TOKENS, -1, net["head_dim"]).transpose(0, 1)[None]

    x = F.embedding(tokens, p["embed"])
    for i in range(LAYERS):
        at = f"{i}."
        h = F.rms_norm(x, (d,), p[at + "attn_norm"], 1e-5)
        q, k, v = rope(split(F.linear(h, p[at + "q"]))), rope(split(F.linear(h, p[at + "k"]))), split(F.linear(h, p[at + "v"]))
        k, v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)  # faster here than enable_gqa
        z = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + F.linear(z[0].transpose(0, 1).reshape(TOKENS, heads * net["head_dim"]), p[at + "o"])
        h = F.rms_norm(x, (d,), p[at + "mlp_norm"], 1e-5)
        x = x + F.linear(F.silu(F.linear(h, p[at + "gate"])) * F.linear(h, p[at + "up"]), p[at + "down"])
    logits = F.linear(F.rms_norm(x, (d,), p["norm"], 1e-5), p["head"])
    return F.cross_entropy(logits[:-1], tokens[1:])


def batch_of(net, head_dim):
    if net is None:
        angles = torch.outer(torch.arange(TOKENS).float(), 10000.0 ** (-torch.arange(0, head_dim, 2).float() / head_dim))
        return {"tokens": torch.randint(0, VOCAB, (TOKENS,)), "cos": angles.cos(), "sin": angles.sin()}
    shape = (PICTURES, 3, net["size"], net["size"])
    return {"images": torch.randn(shape), "noise": torch.randn(shape), "times": torch.randint(0, 1000, (PICTURES,)),
            "labels": torch.randint(0, net.get("classes", 1), (PICTURES,)),
            "captions": torch.randint(0, net.get("vocab_size", 1), (PICTURES, 7))}


def torch_step(what, threads):
    """Of this process; `what` is a row of bench_train_step with "compile" beside."""
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    p = {name: (torch.ones(shape) if len(shape) == 1 else torch.randn(shape) / torch.Size(shape[1:]).numel() ** 0.5)
         .requires_grad_() for name, shape in what["parameters"].items()}
    net, head_dim = what["net"], 32 if what["case"] == "llama-128" else 64
    batch, loss = batch_of(net, head_dim), llama if net is None else LOSSES[net["net"]]
    net = net or {"head_dim": head_dim}
    if what["compile"]:
        loss = torch.compile(loss)
    best = float("inf")
    for i in range(9):
        begin = time.perf_counter()
        for value in p.values():
            value.grad = None
        loss(p, net, batch).backward()
        if i >= 2:
            best = min(best, time.perf_counter() - begin)
    return {"ms": best * 1e3, "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3}


def run(*command, **more):
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **more).stdout)


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--bench", required=True, help="the program bench_train_step")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--no-compile", action="store_true")
parser.add_argument("--json", action="store_true")
parser.add_argument("--torch", action="store_true", help=argparse.SUPPRESS)
parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
args = parser.parse_args()
if args.torch:
    print(json.dumps(torch_step(json.load(sys.stdin), args.threads)))
    sys.exit(0)
rows = []
for case in args.cases or CASES:
    best = {}
    for _ in range(args.rounds):  # in turn: other programs on the machine cut into all three
        ours = run(args.bench, "--json", str(args.threads), case)[0]
        tries = {"Fovea": {"ms": ours["seconds"] * 1e3, "mb": ours["peak_rss_mb"]}}
        for way in ("eager",) if args.no_compile else ("eager", "compile"):
            tries[way] = run(sys.executable, __file__, "--torch", "--bench", "", "--threads", str(args.threads),
                             input=json.dumps({**ours, "compile": way == "compile"}))
        best = {way: min(best.get(way, one), one, key=lambda x: x["ms"]) for way, one in tries.items()}
    ours, theirs = best["Fovea"], min((b for way, b in best.items() if way != "Fovea"), key=lambda x: x["ms"])
    rows.append({"step": case, "Fovea ms": ours["ms"], "eager ms": best["eager"]["ms"],
                 "compile ms": best.get("compile", {}).get("ms"), "times the faster": theirs["ms"] / ours["ms"],
                 "Fovea MB": ours["mb"], "PyTorch MB": theirs["mb"]})
    print(", ".join(f"{k} {v:.4g}" if k != "step" else v for k, v in rows[-1].items() if v is not None), file=sys.stderr,
          flush=True)
if args.json:
    print(json.dumps({"torch": torch.__version__, "threads": args.threads, "rows": rows}))
