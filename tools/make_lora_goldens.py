#!/usr/bin/env python3
"""Writes tests/data/adapters/: LoRA adapters as PEFT saves them for the models of tests/data/families, and what PEFT
answers with them.

  python3 tools/make_lora_goldens.py [NAME ...]     all without names

A folder holds adapter_config.json, adapter_model.safetensors and golden.json: the model, token ids, the logits of some
of their rows in float32, and under "mixed" the same with another adapter beside it, each with a scale. B is drawn like
A, so that no adapter is without effect. Needs torch, transformers and peft; none of them is needed to build or test
Fovea.
"""
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import peft
import torch
import transformers
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parent.parent / "tests/data"
OUT = ROOT / "adapters"
ROWS = [0, 1, 33, 149]
MLP = ["gate_proj", "up_proj", "down_proj"]
ALL = ["q_proj", "k_proj", "v_proj", "o_proj"] + MLP

# By the folder's name: the model, fields of the configuration, the type that a and b are saved in.
ADAPTERS = {
    "llama": ("llama", {"r": 4, "lora_alpha": 8, "target_modules": ALL,
                        "rank_pattern": {"k_proj": 2, "layers.1.self_attn.q_proj": 3},
                        "alpha_pattern": {"^model.layers.2.mlp.down_proj": 2, "v_proj": 6}}, torch.float32),
    "llama-small": ("llama", {"r": 2, "lora_alpha": 3, "target_modules": ["q_proj", "v_proj", "lm_head"]},
                    torch.bfloat16),
    "qwen2": ("qwen2", {"r": 3, "lora_alpha": 5, "use_rslora": True,
                        "target_modules": ["q_proj", "o_proj", "embed_tokens"] + MLP}, torch.float32),
    "gpt2": ("gpt2", {"r": 4, "lora_alpha": 6, "fan_in_fan_out": True,
                      "target_modules": ["c_attn", "c_proj", "c_fc"]}, torch.float32),
    "phi3": ("phi3", {"r": 4, "lora_alpha": 4, "target_modules": ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]},
             torch.float16),
    "gptneox": ("gptneox", {"r": 3, "lora_alpha": 6,
                            "target_modules": ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"]},
                torch.float32),
}
# Beside the adapter of this name another one, and the scale of each.
MIXED = {"llama": ("llama-small", 0.5, -1.5)}


def load(model):
    return transformers.AutoModelForCausalLM.from_pretrained(
        ROOT / "families" / model, dtype=torch.float32, attn_implementation="eager").eval()


def make(name):
    model, fields, dtype = ADAPTERS[name]
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    adapted = peft.get_peft_model(load(model), peft.LoraConfig(task_type="CAUSAL_LM", **fields))
    rng = torch.Generator().manual_seed(100 + list(ADAPTERS).index(name))
    for key, p in adapted.named_parameters():
        if "lora_" in key:
            rank = min(p.shape)
            scale = 0.4 / rank ** 0.5 if "_B" in key else 1 / max(p.shape) ** 0.5
            p.data = (torch.randn(p.shape, generator=rng) * scale).to(dtype).float()
    adapted.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    weights = {key: value.to(dtype).contiguous() for key, value in load_file(folder / "adapter_model.safetensors").items()}
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = model
    config["target_modules"] = sorted(config["target_modules"])  # a set, in any order
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")


@torch.no_grad()
def logits(model, ids):
    rows = model(torch.tensor([ids]), use_cache=False).logits[0]
    return [[float(f"{v:.7g}") for v in rows[r].tolist()] for r in ROWS]


def answer(name):
    model, _, _ = ADAPTERS[name]
    folder = OUT / name
    ids = [int(i) for i in np.random.default_rng(11).integers(3, 96, 150)]
    base = logits(load(model), ids)
    adapted = peft.PeftModel.from_pretrained(load(model), folder).eval()
    golden = {"model": model, "ids": ids, "rows": ROWS, "logits": logits(adapted, ids)}
    moved = float(np.abs(np.array(golden["logits"]) - np.array(base)).max())
    assert moved > 0.1, f"{name}: the adapter moves logits by {moved} only"
    if name in MIXED:
        other, mine, its = MIXED[name]
        # Both at once, each times its scale: PEFT adds what the active adapters bring.
        adapted.load_adapter(OUT / other, adapter_name="other")
        adapted.base_model.set_adapter(["default", "other"])
        for module in adapted.modules():
            for adapter, scale in (("default", mine), ("other", its)):
                if isinstance(module, peft.tuners.lora.LoraLayer) and adapter in module.scaling:
                    module.scaling[adapter] *= scale
        golden["mixed"] = {"other": other, "scales": [mine, its], "logits": logits(adapted, ids)}
    (folder / "golden.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    print(f"{name}: moves logits by {moved:.2f}, {sum(f.stat().st_size for f in folder.iterdir())} bytes")


def main():
    names = sys.argv[1:] or list(ADAPTERS)
    for name in names:
        make(name)
    for name in names:
        answer(name)


if __name__ == "__main__":
    main()
