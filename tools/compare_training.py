#!/usr/bin/env python3
"""Training beside PyTorch: the losses of `fovea train` and of `transformers`' LlamaForCausalLM, step by step.

    pip install torch transformers tokenizers numpy
    python3 tools/compare_training.py [--fovea build/fovea] [--steps 100] [--d-model 256] [--layers 4] [FILE ...]

Both start from the same folder of weights and read the same tokens of FILE (by default texts that Debian has) in the
same order. The check: at every step the loss, the learning rate and the norm of the gradient agree within 1e-3, and so
do the norms of all final weights. The exit code is 1 if they do not.
"""
import argparse
import json
import math
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

TEXTS = ["GPL-3", "GPL-2", "LGPL-2.1", "MPL-2.0", "Apache-2.0", "Artistic", "GFDL-1.3"]


def ids_of(files, vocab_size):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train(files, trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                               show_progress=False))
    text = "\n".join(pathlib.Path(file).read_text(encoding="utf-8", errors="replace") for file in files)
    return np.array(tokenizer.encode(text).ids, dtype=np.int32)


def rate(settings, step):
    warmup, final, steps = settings["warmup"], settings["final"], settings["steps"]
    if step < warmup:
        return settings["lr"] * (step + 1) / warmup
    at = (step - warmup) / (steps - warmup)
    return settings["lr"] * (final + (1 - final) * (1 + math.cos(math.pi * at)) / 2)


def train_in_torch(folder, ids, s):
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
    model.train()
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": s["decay"]}, {"params": vectors, "weight_decay": 0}],
                                  lr=s["lr"], betas=(0.9, 0.95), eps=1e-8)
    width, log = s["context"] + 1, []
    for step in range(s["steps"]):
        optimizer.zero_grad()
        total = 0.0
        for micro in range(s["accumulate"]):
            first = (step * s["accumulate"] + micro) * s["batch"]
            at = [(first + b) * width % (len(ids) - width) for b in range(s["batch"])]
            rows = torch.tensor(np.stack([ids[a:a + width] for a in at]), dtype=torch.long)
            logits = model(rows[:, :-1]).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten()) / s["accumulate"]
            loss.backward()
            total += loss.item()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), s["clip"]).item()
        for group in optimizer.param_groups:
            group["lr"] = rate(s, step)
        optimizer.step()
        log.append({"loss": total, "grad_norm": norm, "lr": rate(s, step)})
    return log, {name: p.detach().double().norm().item() for name, p in model.named_parameters()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", metavar="FILE")
    parser.add_argument("--fovea", default="build/fovea")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--d-model", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    files = args.files or [f"/usr/share/common-licenses/{name}" for name in TEXTS]
    files = [file for file in files if pathlib.Path(file).exists()]
    s = {"context": 128, "batch": 2, "accumulate": 2, "steps": args.steps, "lr": 1e-3, "warmup": 10, "final": 0.1,
         "decay": 0.1, "clip": 1.0}
    with tempfile.TemporaryDirectory() as name:
        work = pathlib.Path(name)
        ids = ids_of(files, vocab_size=2048)
        np.save(work / "ids.npy", ids)
        torch.manual_seed(0)
        heads = max(1, args.d_model // 64)
        LlamaForCausalLM(LlamaConfig(
            vocab_size=2048, hidden_size=args.d_model, intermediate_size=4 * args.d_model, num_hidden_layers=args.layers,
            num_attention_heads=heads, num_key_value_heads=max(1, heads // 2), max_position_embeddings=512,
            tie_word_embeddings=False)).save_pretrained(work / "begin")
        config = {"model": str(work / "begin"), "data": {"tokens": str(work / "ids.npy")}, "context": s["context"],
                  "batch": s["batch"], "accumulate": s["accumulate"], "order": "sequential", "steps": s["steps"],
                  "optimizer": {"name": "adamw", "lr": s["lr"], "betas": [0.9, 0.95], "eps": 1e-8,
                                "weight_decay": s["decay"], "decay": "matrices"},
                  "schedule": {"name": "cosine", "warmup": s["warmup"], "final": s["final"]}, "clip": s["clip"],
                  "out": str(work / "out")}
        (work / "config.json").write_text(json.dumps(config))
        begin = time.time()
        subprocess.run([args.fovea, "train", str(work / "config.json"), "-q", "-t", str(args.threads)], check=True,
                       stdout=subprocess.DEVNULL)
        ours_seconds, begin = time.time() - begin, time.time()
        theirs, norms = train_in_torch(work / "begin", ids, s)
        theirs_seconds = time.time() - begin
        ours = [json.loads(line) for line in (work / "out/log.jsonl").read_text().splitlines()]
        trained = LlamaForCausalLM.from_pretrained(work / "out/model", dtype=torch.float32)

    def apart(a, b):
        return abs(a - b) / max(abs(b), 1e-30)

    worst = {key: max((apart(a[key], b[key]), step) for step, (a, b) in enumerate(zip(ours, theirs)))
             for key in ("loss", "grad_norm", "lr")}
    worst_norm = max((apart(p.detach().double().norm().item(), norms[n]), n) for n, p in trained.named_parameters())
    print(f"{len(ours)} steps of {args.layers} layers, d_model {args.d_model}, on {len(ids)} tokens: loss "
          f"{ours[0]['loss']:.4f} to {ours[-1]['loss']:.4f}; PyTorch {theirs[0]['loss']:.4f} to {theirs[-1]['loss']:.4f}")
    for key, (distance, step) in worst.items():
        print(f"  {key}: at most {distance:.2e} apart, relative, at step {step}")
    print(f"  norms of the final weights: at most {worst_norm[0]:.2e} apart, {worst_norm[1]}")
    print(f"  seconds with {args.threads} threads: fovea {ours_seconds:.1f}, PyTorch {theirs_seconds:.1f}")
    good = len(ours) == len(theirs) and worst["loss"][0] < 1e-3 and worst["lr"][0] < 1e-3 and worst_norm[0] < 1e-3
    print("equal within 1e-3" if good else "NOT equal within 1e-3")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
