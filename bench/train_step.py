#!/usr/bin/env python3
"""The training step of bench/train_step.cc in PyTorch (eager and torch.compile, float32), and the ratio of the two.

    bench/train_step.py --bench build/bench_train_step [--threads 2] [--d-model 128 256 512] [--rounds 3] [--no-compile] [--json]

Needs torch and a C++ compiler for torch.compile. Prints the steps in milliseconds and how many times faster Fovea is than
the faster of the two.
"""
import argparse
import json
import resource
import subprocess
import sys
import time

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    sys.exit(f"{__doc__}\ntrain_step.py: this Python has no torch: pip install torch")

LAYERS, VOCAB, TOKENS = 4, 4096, 1024


class Llama(torch.nn.Module):
    def __init__(self, d):
        super().__init__()
        self.head_dim = 32 if d <= 128 else 64
        self.heads = d // self.head_dim
        kv, d_ff = self.heads // 2 * self.head_dim, 4 * d

        def matrix(rows, cols):
            return torch.nn.Parameter(torch.randn(rows, cols) / cols**0.5)

        self.embed, self.head, self.norm = matrix(VOCAB, d), matrix(VOCAB, d), torch.nn.Parameter(torch.ones(d))
        self.blocks = torch.nn.ParameterList()
        for _ in range(LAYERS):
            self.blocks.append(torch.nn.ParameterDict({
                "attn_norm": torch.nn.Parameter(torch.ones(d)), "mlp_norm": torch.nn.Parameter(torch.ones(d)),
                "q": matrix(d, d), "k": matrix(kv, d), "v": matrix(kv, d), "o": matrix(d, d),
                "gate": matrix(d_ff, d), "up": matrix(d_ff, d), "down": matrix(d, d_ff)}))
        angles = torch.outer(torch.arange(TOKENS).float(),
                             10000.0 ** (-torch.arange(0, self.head_dim, 2).float() / self.head_dim))
        self.register_buffer("cos", angles.cos()[:, None, :])
        self.register_buffer("sin", angles.sin()[:, None, :])

    def rope(self, x):
        a, b = x.chunk(2, dim=-1)
        return torch.cat((a * self.cos - b * self.sin, a * self.sin + b * self.cos), dim=-1)

    def forward(self, tokens):
        d = self.norm.shape[0]
        x = F.embedding(tokens, self.embed)
        for w in self.blocks:
            h = F.rms_norm(x, (d,), w["attn_norm"], 1e-5)
            q = self.rope(F.linear(h, w["q"]).view(TOKENS, self.heads, self.head_dim)).transpose(0, 1)[None]
            k = self.rope(F.linear(h, w["k"]).view(TOKENS, self.heads // 2, self.head_dim)).transpose(0, 1)[None]
            v = F.linear(h, w["v"]).view(TOKENS, self.heads // 2, self.head_dim).transpose(0, 1)[None]
            k, v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)  # faster here than enable_gqa
            z = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + F.linear(z[0].transpose(0, 1).reshape(TOKENS, d), w["o"])
            h = F.rms_norm(x, (d,), w["mlp_norm"], 1e-5)
            x = x + F.linear(F.silu(F.linear(h, w["gate"])) * F.linear(h, w["up"]), w["down"])
        logits = F.linear(F.rms_norm(x, (d,), self.norm, 1e-5), self.head)
        return F.cross_entropy(logits[:-1], tokens[1:])


def best_step(model, tokens, forward):
    best = float("inf")
    for i in range(9):
        begin = time.perf_counter()
        model.zero_grad(set_to_none=True)
        forward(tokens).backward()
        if i >= 2:
            best = min(best, time.perf_counter() - begin)
    return best * 1e3


def our_step(program, threads, d):
    done = subprocess.run([program, "--json", str(threads), str(d)], check=True, capture_output=True, text=True)
    step = json.loads(done.stdout)[0]
    return step["seconds"] * 1e3, step["peak_rss_mb"]


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--bench", required=True, help="the program bench_train_step")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--d-model", type=int, nargs="+", default=[128, 256, 512])
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--no-compile", action="store_true")
parser.add_argument("--json", action="store_true")
args = parser.parse_args()
torch.set_num_threads(args.threads)
tokens = torch.randint(0, VOCAB, (TOKENS,), generator=torch.Generator().manual_seed(1))
rows = []
for d in args.d_model:
    model = Llama(d)
    ours = eager = compiled = memory = float("inf")
    fast = None if args.no_compile else torch.compile(model)
    for _ in range(args.rounds):  # in turn: other programs on the machine cut into all three
        milliseconds, memory = our_step(args.bench, args.threads, d)
        ours = min(ours, milliseconds)
        eager = min(eager, best_step(model, tokens, model))
        if fast is not None:
            compiled = min(compiled, best_step(model, tokens, fast))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    rows.append({"d_model": d, "Fovea ms": ours, "eager ms": eager, "compile ms": None if args.no_compile else compiled,
                 "times the faster": min(eager, compiled) / ours, "Fovea MB": memory, "PyTorch MB": peak})
    print(", ".join(f"{k} {v:.4g}" for k, v in rows[-1].items() if v is not None), file=sys.stderr, flush=True)
if args.json:
    print(json.dumps({"torch": torch.__version__, "threads": args.threads, "rows": rows}))
