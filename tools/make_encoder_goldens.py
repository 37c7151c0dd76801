#!/usr/bin/env python3
"""Writes tests/data/encoders/: a tiny random encoder of every family as `transformers` saves it, and its hidden rows.

  python3 tools/make_encoder_goldens.py [FAMILY ...]     all families without names

A folder holds config.json, model.safetensors (bf16) and golden.json: token ids, and some rows of the last hidden state
in float32 (eager attention); under "variants" the same for changed fields of config.json. Windows are shorter than the
text, biases and norms are drawn. Needs torch and transformers; none of them is needed to build or test Fovea.
"""
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
import transformers

OUT = Path(__file__).resolve().parent.parent / "tests/data/encoders"
VOCAB, LAYERS, N_IDS = 96, 4, 90
ROWS = [0, 1, 20, 33, 75, 89]
SIZES = {"vocab_size": VOCAB, "hidden_size": 48, "intermediate_size": 40, "num_hidden_layers": LAYERS,
         "num_attention_heads": 3, "max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": 1,
         "eos_token_id": 2}
IDS = {"cls_token_id": 1, "sep_token_id": 2}
# Heads are wider than the stream is divided, distances end inside the text.
T5 = {"vocab_size": VOCAB, "d_model": 48, "d_ff": 40, "num_layers": LAYERS, "num_decoder_layers": 1, "num_heads": 3,
      "d_kv": 24, "n_positions": 128, "relative_attention_num_buckets": 12, "relative_attention_max_distance": 40,
      "layer_norm_epsilon": 1e-5, "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1}
# Name of the folder: class of the config, its fields, changes of config.json, class of the model.
FAMILIES = {
    "bert": ("BertConfig", {"type_vocab_size": 3}, {"tanh": {"hidden_act": "gelu_new"}, "relu": {"hidden_act": "relu"}}),
    "nomic-bert": ("NomicBertConfig", {"rope_parameters": {"rope_type": "default", "rope_theta": 700.0}}, {}),
    "modern-bert": ("ModernBertConfig", IDS | {"local_attention": 10, "attention_bias": True, "mlp_bias": True,
                                               "norm_bias": True}, {
        "odd window": {"local_attention": 7},
        "other layers": {"layer_types": ["sliding_attention", "full_attention"] * 2},
        "no window": {"layer_types": ["full_attention"] * LAYERS}}),
    "t5encoder": ("T5Config", T5 | {"feed_forward_proj": "gated-gelu"}, {
        "farther": {"relative_attention_max_distance": 300}, "silu": {"feed_forward_proj": "gated-silu", "dense_act_fn": "silu"},
        "what is said again counts": {"feed_forward_proj": "relu"}},
        "T5EncoderModel"),
    "t5encoder-relu": ("T5Config", T5 | {"feed_forward_proj": "relu"}, {"gelu": {"dense_act_fn": "gelu"}},
                       "T5ForConditionalGeneration"),  # version 1.0, with a decoder
}


def draw(model, seed):
    rng = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        values = torch.randn(p.shape, generator=rng)
        if name.endswith("bias"):
            values *= 0.2
        elif p.dim() == 1:
            values = p.data.float() + 0.2 * values
        elif "embed" in name or "shared" in name or "relative" in name:
            values *= 0.7
        else:
            values /= p.shape[1] ** 0.5
        p.data = values.to(torch.bfloat16).float()


@torch.no_grad()
def rows(model, ids):
    model = model.encoder if hasattr(model, "encoder") and model.config.is_encoder_decoder else model
    hidden = model(torch.tensor([ids])).last_hidden_state[0]
    return [[float(f"{v:.7g}") for v in hidden[r].tolist()] for r in ROWS]


def load(folder, cls):
    return cls.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def make(name):
    cls, fields, variants, *of = FAMILIES[name]
    of = getattr(transformers, of[0] if of else "AutoModel")
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = getattr(transformers, cls)(**(fields if cls == "T5Config" else SIZES | fields))
    config.dtype = torch.bfloat16
    config._attn_implementation = "eager"
    model = (of.from_config if of is transformers.AutoModel else of)(config).float()
    draw(model, seed=list(FAMILIES).index(name))
    model.to(torch.bfloat16).save_pretrained(folder)
    ids = [int(i) for i in np.random.default_rng(7).integers(3, VOCAB, N_IDS)]
    golden = {"ids": ids, "rows": ROWS, "hidden": rows(load(folder, of), ids)}
    written = json.loads((folder / "config.json").read_text())
    for variant, changed in variants.items():
        other = Path("/tmp") / f"fovea-encoder-{name}"
        shutil.rmtree(other, ignore_errors=True)
        shutil.copytree(folder, other)
        (other / "config.json").write_text(json.dumps(written | changed))
        golden.setdefault("variants", {})[variant] = {"config": changed, "hidden": rows(load(other, of), ids)}
        shutil.rmtree(other)
    (folder / "golden.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    print(f"{name}: {sum(f.stat().st_size for f in folder.iterdir()) // 1024} KB")


def main():
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    for name in sys.argv[1:] or FAMILIES:
        make(name)


if __name__ == "__main__":
    main()
