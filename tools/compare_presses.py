#!/usr/bin/env python3
"""Which keys methods keep of a prompt, beside NVIDIA's kvpress: the share of the same positions, by ratio.

    pip install torch kvpress
    cmake --build --preset release --target kept_keys
    python3 tools/compare_presses.py -m FOLDER [-f TEXT] [--tokens N] [--keep 0.25,0.5,0.75] [--methods NAME,...]

FOLDER is a Hugging Face folder in float32 (`fovea quantize --type f32`, then `fovea convert`), which both read, in exact
numerics and float32. Each gets the first N tokens of TEXT as one prompt. Printed of each method and ratio: the mean over
layers and KV heads of the share of kept positions that both keep, the least of one head, and how many heads differ. The
exit code is 1 if a mean is below 0.98.
"""
import argparse
import json
import subprocess
import sys
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

import kvpress
from kvpress.utils import compute_n_kept

METHODS = {  # as ours has it, and theirs
    "snapkv": ("snapkv:keep={}", kvpress.SnapKVPress),
    "expected-attention": ("expected-attention:keep={}", kvpress.ExpectedAttentionPress),
    "h2o": ("h2o:heavy={}:recent=0:by=mean", kvpress.ObservedAttentionPress),
}


@torch.inference_mode()
def theirs(model, ids, press):
    kept, score = {}, press.score

    def noting(module, hidden_states, keys, *rest):
        scores = score(module, hidden_states, keys, *rest)
        n = compute_n_kept(keys.shape[2], press.compression_ratio)
        kept[module.layer_idx] = scores[0].topk(n, dim=-1).indices.sort(-1).values.tolist()
        return scores

    press.score = noting
    with press(model):
        model.model(torch.tensor([ids]), past_key_values=DynamicCache(config=model.config), output_attentions=True)
    return [kept[layer] for layer in sorted(kept)]


def ours(args, ids, spec):
    done = subprocess.run([args.kept_keys, args.model, spec], input=json.dumps(ids), capture_output=True, text=True)
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise SystemExit(f"{spec}: {answer['error']}")
    return answer["kept"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--model", required=True, help="a Hugging Face folder")
    parser.add_argument("-f", "--file", default="README.md", help="the text")
    parser.add_argument("--tokens", type=int, default=1000)
    parser.add_argument("--keep", default="0.25,0.5,0.75")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--kept-keys", default="build/kept_keys")
    parser.add_argument("--attention", default="eager", help="of the model there")
    args = parser.parse_args()

    torch.set_num_threads(2)
    transformers.logging.disable_progress_bar()
    ids = AutoTokenizer.from_pretrained(args.model)(Path(args.file).read_text())["input_ids"][:args.tokens]
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32, attn_implementation=args.attention)
    low = False
    print(f"{Path(args.model).name}, {len(ids)} tokens of {args.file}")
    for method in args.methods.split(","):
        for keep in map(float, args.keep.split(",")):
            spec, press = METHODS[method]
            a = theirs(model.eval(), ids, press(compression_ratio=1 - keep))
            b = ours(args, ids, spec.format(keep))
            shares = [len(set(x) & set(y)) / max(len(x), len(y)) for m, n in zip(a, b, strict=True)
                      for x, y in zip(m, n, strict=True)]
            mean = sum(shares) / len(shares)
            low |= mean < 0.98
            print(f"{method:20} keep {keep:4}: mean {mean:.4f}, least {min(shares):.4f}, "
                  f"{sum(s < 1 for s in shares)} of {len(shares)} heads differ")
    sys.exit(low)


if __name__ == "__main__":
    main()
