#!/usr/bin/env python3
"""Training beside PyTorch: the losses of `fovea train` and of the same model there, step by step.

    pip install torch transformers tokenizers numpy
    python3 tools/compare_training.py [--net llama|vit|unet|dit|lstm|...] [--steps N] [--fovea build/fovea] [FILE ...]

Both start from the same weights and read the same samples in the same order: a llama (`transformers`) tokens of FILE (by
default texts that Debian has), the others pictures of `fovea data scenes` or sequences of `fovea data mqar`. The check:
at every step the loss and the learning rate agree within 1e-3, and so do the norms of all final weights. The exit code
is 1 if they do not. A third run in float64 judges both: it tells the rounding of float32, which grows from step to step,
from an error. Where it is a llama, the gradients of its first and of its last weights are compared tensor by tensor.
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
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

from training_twins import LOSSES

TEXTS = ["GPL-3", "GPL-2", "LGPL-2.1", "MPL-2.0", "Apache-2.0", "Artistic", "GFDL-1.3"]
TEXT_RUN = {"context": 128, "batch": 2, "accumulate": 2, "lr": 1e-3, "warmup": 10, "final": 0.1, "decay": 0.1, "clip": 1.0}
NET_RUN = {**TEXT_RUN, "batch": 16, "accumulate": 1}
NETS = {"vit": {"net": "vit", "size": 32, "patch": 8, "d_model": 64, "n_layers": 3, "n_heads": 4, "classes": 6},
        "unet": {"net": "unet", "size": 16, "width": 16, "factors": [1, 2], "n_heads": 4, "vocab_size": 17},
        "dit": {"net": "dit", "size": 16, "patch": 4, "d_model": 64, "n_layers": 3, "n_heads": 4, "classes": 6,
                "class_dropout": 0},
        "two-tower": {"net": "two-tower", "size": 32, "patch": 8, "d_model": 64, "n_layers": 3, "n_heads": 4, "vocab_size": 17,
                      "text": {"d_model": 48, "n_layers": 2, "n_heads": 4}},
        "vlm": {"net": "vlm", "size": 32, "patch": 8, "d_model": 64, "n_layers": 2, "n_heads": 4, "vocab_size": 17,
                "vision": {"d_model": 48, "n_layers": 2, "n_heads": 4}},
        "pointer": {"net": "pointer", "width": 2, "d_model": 64, "n_layers": 2, "n_heads": 4, "decoder_layers": 2},
        "lstm": {"net": "lstm", "vocab_size": 32, "d_model": 96, "n_layers": 2},
        "linear-attention": {"net": "mixer", "mixer": "linear-attention", "vocab_size": 32, "d_model": 96, "n_layers": 2,
                             "n_heads": 4},
        "decay": {"net": "mixer", "mixer": "decay", "vocab_size": 32, "d_model": 96, "n_layers": 2},
        "conv": {"net": "mixer", "mixer": "conv", "vocab_size": 32, "d_model": 96, "n_layers": 2, "kernel": 4}}


def ids_of(files, vocab_size):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train(files, trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                               show_progress=False))
    text = "\n".join(pathlib.Path(file).read_text(encoding="utf-8", errors="replace") for file in files)
    return np.array(tokenizer.encode(text).ids, dtype=np.int32)


def rate(s, step):
    if step < s["warmup"]:
        return s["lr"] * (step + 1) / s["warmup"]
    at = (step - s["warmup"]) / (s["steps"] - s["warmup"])
    return s["lr"] * (s["final"] + (1 - s["final"]) * (1 + math.cos(math.pi * at)) / 2)


class Llama:
    """A folder of weights and a row of tokens."""

    def __init__(self, work, args, files):
        self.ids = ids_of(files, vocab_size=2048)
        np.save(work / "ids.npy", self.ids)
        torch.manual_seed(0)
        heads = max(1, args.d_model // 64)
        LlamaForCausalLM(LlamaConfig(
            vocab_size=2048, hidden_size=args.d_model, intermediate_size=4 * args.d_model, num_hidden_layers=args.layers,
            num_attention_heads=heads, num_key_value_heads=max(1, heads // 2), max_position_embeddings=512,
            tie_word_embeddings=False)).save_pretrained(work / "begin")
        self.run, self.begin = {**TEXT_RUN, "steps": args.steps or 100}, work / "begin"
        self.data = {"tokens": str(work / "ids.npy")}

    def config(self, folder):
        return {"model": str(folder), "data": self.data, "context": self.run["context"]}

    def parameters(self, folder, dtype):
        self.model = LlamaForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa")
        return dict(self.model.named_parameters())

    def loss(self, parameters, samples):
        width = self.run["context"] + 1
        at = [i * width % (len(self.ids) - width) for i in samples]
        rows = torch.tensor(np.stack([self.ids[a:a + width] for a in at]), dtype=torch.long)
        logits = self.model(rows[:, :-1]).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())


class Net:
    """One of fovea/train/nets, begun from weights that fovea draws."""

    def __init__(self, work, args):
        self.net, self.run = NETS[args.net], {**NET_RUN, "steps": args.steps or 50}
        self.fovea, self.work, n = args.fovea, work, 256
        if args.net == "pointer":
            self.points(self.run["batch"] * self.run["steps"])
            return self.start(args)
        scenes = ["scenes", "--set", f"size={self.net.get('size')}", "--set", "label=colour"]
        made = self.samples(scenes if "size" in self.net else ["mqar", "-c", "32", "--vocab-size", "32"], n)
        if "size" not in self.net:
            self.data = {"jsonl": str(work / "samples.jsonl")}
            self.arrays = {key: np.array([one[key] for one in made], dtype=np.int64) for key in ("tokens", "targets")}
        else:
            shape = (n, 3, self.net["size"], self.net["size"])
            self.arrays = {"images": np.array([one["picture"]["pixels"] for one in made], np.float32).reshape(shape)}
            if "classes" in self.net:
                self.arrays["labels"] = np.array([one["picture"]["label"] for one in made])
            if "vocab_size" in self.net:
                self.arrays["captions"] = np.array([one["tokens"] for one in made])
            if args.net in ("unet", "dit"):
                draw = np.random.default_rng(0)
                self.arrays |= {"noise": draw.standard_normal(shape).astype(np.float32),
                                "times": draw.integers(0, 1000, n)}
            self.data = {key: str(work / f"{key}.npy") for key in self.arrays}
            for key, array in self.arrays.items():
                np.save(work / f"{key}.npy", array)
        self.start(args)

    def points(self, n):
        """Of hulls, rows behind the last point and steps behind the last target filled up."""
        hull = {"points": 8, "least": 4}
        self.data = {"generator": "hull", **hull, "seed": 0}
        made = self.samples(["hull", "-c", "32", *(w for k, v in hull.items() for w in ("--set", f"{k}={v}"))], n)

        def rows(key, empty):
            return np.array([one[key] + [empty] * (hull["points"] + 1 - len(one[key])) for one in made], np.int64)

        pictures = {key: np.array([one["picture"][key] for one in made]) for key in ("pixels", "mask")}
        self.arrays = {"points": pictures["pixels"].reshape(n, -1, 2).astype(np.float32),
                       "points_seen": pictures["mask"].reshape(n, -1, 2)[:, :, 0] > 0,
                       "tokens": rows("tokens", 0), "targets": rows("targets", -100)}

    def start(self, args):
        work = self.work
        still = {**self.config(None), "steps": 1, "optimizer": {"name": "sgd", "lr": 0}, "out": str(work / "still")}
        fovea_train(args, work, still)
        self.begin = work / "still/model"

    def samples(self, generator, n):
        out = self.work / "samples.jsonl"
        subprocess.run([self.fovea, "data", *generator, "--show", str(n), "-o", str(out)], check=True,
                       stdout=subprocess.DEVNULL)
        return [json.loads(line) for line in out.read_text().splitlines()]

    def config(self, folder):
        return {"model": {**self.net, **({"init": str(folder)} if folder else {})}, "data": self.data, "context": 32}

    def parameters(self, folder, dtype):
        return {k: v.to(dtype).requires_grad_() for k, v in load_file(folder / "model.safetensors").items()}

    def loss(self, parameters, samples):
        n = len(next(iter(self.arrays.values())))
        dtype, rows = next(iter(parameters.values())).dtype, [i % n for i in samples]
        batch = {key: torch.tensor(array[rows]) for key, array in self.arrays.items()}
        batch = {key: t.to(dtype) if t.is_floating_point() else t for key, t in batch.items()}
        return LOSSES[self.net["net"]](parameters, self.net, batch)


def fovea_train(args, work, config):
    (work / "config.json").write_text(json.dumps(config))
    subprocess.run([args.fovea, "train", str(work / "config.json"), "-q", "--restart", "-t", str(args.threads)],
                   check=True, stdout=subprocess.DEVNULL)


def in_fovea(args, work, case, s):
    config = {**case.config(case.begin), "batch": s["batch"], "accumulate": s["accumulate"], "order": "sequential",
              "steps": s["steps"],
              "optimizer": {"name": "adamw", "lr": s["lr"], "betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": s["decay"],
                            "decay": "matrices"},
              "schedule": {"name": "cosine", "warmup": s["warmup"], "final": s["final"]}, "clip": s["clip"],
              "out": str(work / "out")}
    fovea_train(args, work, config)
    log = [json.loads(line) for line in (work / "out/log.jsonl").read_text().splitlines()]
    final = load_file(work / "out/model/model.safetensors")
    return log, {name: t.double().norm().item() for name, t in final.items()}


def gradients_of(case, s, parameters, step):
    """Those of one step, left in the parameters -> its loss."""
    for p in parameters.values():
        p.grad = None
    total = 0.0
    for micro in range(s["accumulate"]):
        first = (step * s["accumulate"] + micro) * s["batch"]
        loss = case.loss(parameters, range(first, first + s["batch"])) / s["accumulate"]
        loss.backward()
        total += loss.item()
    return total


def in_torch(case, s, dtype):
    parameters = case.parameters(case.begin, dtype)
    groups = [{"params": [p for p in parameters.values() if p.dim() == 2 and len(p) > 1], "weight_decay": s["decay"]},
              {"params": [p for p in parameters.values() if p.dim() != 2 or len(p) == 1], "weight_decay": 0}]
    optimizer, log = torch.optim.AdamW(groups, lr=s["lr"], betas=(0.9, 0.95), eps=1e-8), []
    for step in range(s["steps"]):
        loss = gradients_of(case, s, parameters, step)
        norm = torch.nn.utils.clip_grad_norm_(parameters.values(), s["clip"]).item()
        for group in optimizer.param_groups:
            group["lr"] = rate(s, step)
        optimizer.step()
        log.append({"loss": loss, "grad_norm": norm, "lr": rate(s, step)})
    return log, {name: p.detach().double().norm().item() for name, p in parameters.items()}


def compare_gradients(args, work, case, s, folder, what):
    """One step at the same weights: how far the gradient of each tensor is from float64's, as a share of its norm."""
    big = 2.0**19  # weights vanish beside it: what sgd leaves is the gradient, but for its own rounding
    fovea_train(args, work, {**case.config(folder), "batch": s["batch"], "accumulate": s["accumulate"], "steps": 1,
                             "optimizer": {"name": "sgd", "lr": big}, "out": str(work / "one")})
    before, after = load_file(folder / "model.safetensors"), load_file(work / "one/model/model.safetensors")
    ours = {name: (before[name].double() - after[name].double()) / big for name in after}
    of = {}
    for dtype in (torch.float32, torch.float64):
        parameters = case.parameters(folder, dtype)
        gradients_of(case, s, parameters, 0)
        of[dtype] = {name: p.grad.double() for name, p in parameters.items()}

    def off(g):
        return sorted(((g[name] - x).norm() / x.norm()).item() for name, x in of[torch.float64].items())

    for engine, apart in (("fovea", off(ours)), ("PyTorch", off(of[torch.float32]))):
        print(f"  gradients at the {what} weights, {engine}: {apart[len(apart) // 2]:.1e} from float64's in the median of "
              f"{len(apart)} tensors, {apart[-1]:.1e} at most")


def apart(a, b):
    return abs(a - b) / max(abs(b), 1e-30)


def worst(a, b, key):
    return max((apart(x[key], y[key]), step) for step, (x, y) in enumerate(zip(a, b)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", metavar="FILE")
    parser.add_argument("--net", choices=["llama", *NETS], default="llama")
    parser.add_argument("--fovea", default="build/fovea")
    parser.add_argument("--steps", type=int, default=0, help="100 of the llama, 50 of the others")
    parser.add_argument("--d-model", type=int, default=256, help="of the llama")
    parser.add_argument("--layers", type=int, default=4, help="of the llama")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    files = args.files or [f"/usr/share/common-licenses/{name}" for name in TEXTS]
    files = [file for file in files if pathlib.Path(file).exists()]
    with tempfile.TemporaryDirectory() as name:
        work = pathlib.Path(name)
        case = Llama(work, args, files) if args.net == "llama" else Net(work, args)
        s = case.run
        begin = time.time()
        ours, our_norms = in_fovea(args, work, case, s)
        ours_seconds, begin = time.time() - begin, time.time()
        theirs, norms = in_torch(case, s, torch.float32)
        theirs_seconds = time.time() - begin
        judge, _ = in_torch(case, s, torch.float64)
        print(f"{args.net}, {len(ours)} steps: loss {ours[0]['loss']:.4f} to {ours[-1]['loss']:.4f}; PyTorch "
              f"{theirs[0]['loss']:.4f} to {theirs[-1]['loss']:.4f}")
        for key in ("loss", "grad_norm", "lr"):
            (both, at), (we, we_at), (they, they_at) = (worst(ours, theirs, key), worst(ours, judge, key),
                                                        worst(theirs, judge, key))
            print(f"  {key}: at most {both:.2e} apart, relative, at step {at}; from float64 fovea {we:.2e} at {we_at}, "
                  f"PyTorch {they:.2e} at {they_at}")
        worst_norm = max((apart(our_norms[n], norms[n]), n) for n in norms)
        print(f"  norms of the final weights: at most {worst_norm[0]:.2e} apart, {worst_norm[1]}")
        if args.net == "llama":
            compare_gradients(args, work, case, s, case.begin, "first")
            compare_gradients(args, work, case, s, work / "out/model", "last")
        print(f"  seconds with {args.threads} threads: fovea {ours_seconds:.1f}, PyTorch {theirs_seconds:.1f}")
    good = (len(ours) == len(theirs) and worst(ours, theirs, "loss")[0] < 1e-3 and worst(ours, theirs, "lr")[0] < 1e-3
            and worst_norm[0] < 1e-3)
    print("equal within 1e-3" if good else "NOT equal within 1e-3")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
