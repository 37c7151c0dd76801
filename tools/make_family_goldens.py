#!/usr/bin/env python3
"""Writes tests/data/families/: a tiny random model of every family as `transformers` saves it, and what it answers.

  python3 tools/make_family_goldens.py [FAMILY ...]     all families without names

A folder holds config.json and model.safetensors (bf16) and golden.json: token ids, the logits of some of their rows in
float32 (eager attention), the greedy continuation, and under "variants" the same for changed fields of config.json. All
features of a family are on: windows shorter than the text, scalings beyond the original context, biases and norms that
are drawn, heads of odd widths. Needs torch and transformers; none of them is needed to build or test Fovea.
"""
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
import transformers

OUT = Path(__file__).resolve().parent.parent / "tests/data/families"
VOCAB, LAYERS, N_IDS, N_GREEDY = 96, 3, 150, 12
ROWS = [0, 1, 20, 33, 75, 149]
SIZES = {"vocab_size": VOCAB, "hidden_size": 48, "intermediate_size": 40, "num_hidden_layers": LAYERS,
         "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
         "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
BASE = {"rope_theta": 5000.0}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32} | BASE
YARN = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 32} | BASE
LONGROPE = {"rope_type": "longrope", "original_max_position_embeddings": 200, "rope_theta": 5000.0,
            "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5], "long_factor": [1.0, 2.0, 3.0, 4.0, 6.0, 9.0]}


def rope(values):
    return {"rope_parameters": values}


# By the architecture's name: the class of its configuration, fields besides SIZES (None takes one of those away), and
# variants that read the same weights with other fields.
FAMILIES = {
    "llama": ("LlamaConfig", {"head_dim": 24, "attention_bias": True, "mlp_bias": True} | rope(LLAMA3), {
        "linear": rope({"rope_type": "linear", "factor": 4.0} | BASE),
        "dynamic": rope({"rope_type": "dynamic", "factor": 4.0} | BASE),
        "yarn": rope(YARN),
        "yarn, no truncation": rope(YARN | {"truncate": False, "beta_fast": 16.0, "beta_slow": 2.0}),
        "yarn, its own factor": rope(YARN | {"attention_factor": 1.1}),
        "plain": rope({"rope_type": "default"} | BASE)}),
    "mistral": ("MistralConfig", {"head_dim": 16, "sliding_window": 12, "tie_word_embeddings": True}, {
        "no window": {"sliding_window": None}}),
    "qwen2": ("Qwen2Config", {"hidden_size": 64, "sliding_window": 12, "use_sliding_window": True,
                              "max_window_layers": 1, "tie_word_embeddings": True}, {
        "no window": {"use_sliding_window": False, "sliding_window": None,
                      "layer_types": ["full_attention"] * LAYERS},
        "yarn": rope(YARN)}),
    "qwen3": ("Qwen3Config", {"head_dim": 40, "attention_bias": True, "sliding_window": 12, "use_sliding_window": True,
                              "max_window_layers": 1}, {}),
    "gemma": ("GemmaConfig", {"head_dim": 32, "num_key_value_heads": 1}, {}),
    "gemma2": ("Gemma2Config", {"head_dim": 24, "query_pre_attn_scalar": 20, "sliding_window": 12,
                                "attn_logit_softcapping": 5.0, "final_logit_softcapping": 4.0}, {}),
    "gemma3": ("Gemma3TextConfig", {"head_dim": 32, "num_key_value_heads": 1, "query_pre_attn_scalar": 20,
                                    "sliding_window": 12,
                                    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
                                    "rope_parameters": {
                                        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                                        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}}, {}),
    "phi2": ("PhiConfig", {"hidden_size": 64, "num_key_value_heads": 4,
                           "rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5} | BASE}, {}),
    "phi3": ("Phi3Config", {"hidden_size": 64, "intermediate_size": 32, "sliding_window": 40,
                            "original_max_position_embeddings": 200,
                            "rope_parameters": LONGROPE | {"partial_rotary_factor": 0.75}}, {
        "long": {"original_max_position_embeddings": 64}
                | rope(LONGROPE | {"partial_rotary_factor": 0.75, "original_max_position_embeddings": 64})}),
    "gpt2": ("GPT2Config", {"n_embd": 48, "n_layer": LAYERS, "n_head": 3, "n_positions": 192, "hidden_size": None,
                            "intermediate_size": None, "num_hidden_layers": None, "num_attention_heads": None,
                            "num_key_value_heads": None, "max_position_embeddings": None,
                            "attention_head_dim": None}, {}),
    "gptneox": ("GPTNeoXConfig", {"hidden_size": 64, "num_key_value_heads": None,
                                  "rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.25} | BASE}, {
        "one after the other": {"use_parallel_residual": False}}),
    "smollm3": ("SmolLM3Config", {"hidden_size": 64, "no_rope_layers": [1, 0, 1], "use_sliding_window": True,
                                  "sliding_window": 12, "attention_bias": True, "mlp_bias": True}, {}),
    "olmo2": ("Olmo2Config", {"hidden_size": 64, "attention_bias": True}, {}),
    "granite": ("GraniteConfig", {"hidden_size": 64, "embedding_multiplier": 3.0, "attention_multiplier": 0.2,
                                  "residual_multiplier": 0.4, "logits_scaling": 2.5, "attention_bias": True,
                                  "mlp_bias": True}, {}),
    "starcoder2": ("Starcoder2Config", {"hidden_size": 64, "sliding_window": 12}, {}),
    "stablelm": ("StableLmConfig", {"hidden_size": 64, "num_key_value_heads": 4, "use_qkv_bias": True,
                                    "rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5} | BASE},
                 {}),
    "stablelm-parallel": ("StableLmConfig", {"hidden_size": 64, "num_key_value_heads": 4,
                                             "use_parallel_residual": True}, {}),
    "mixtral": ("MixtralConfig", {"head_dim": 16, "num_local_experts": 5, "num_experts_per_tok": 2,
                                  "intermediate_size": 24} | rope({"rope_type": "default"} | BASE), {
        "window": {"sliding_window": 12},
        "all experts": {"num_experts_per_tok": 5},
        "one expert": {"num_experts_per_tok": 1}}),
    "qwen2moe": ("Qwen2MoeConfig", {"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
                                    "num_attention_heads": 2, "num_key_value_heads": 1,
                                    "shared_expert_intermediate_size": 40, "sliding_window": 12,
                                    "use_sliding_window": True, "max_window_layers": 3}, {
        "normalized": {"norm_topk_prob": True}}),
    "qwen3moe": ("Qwen3MoeConfig", {"head_dim": 24, "num_experts": 6, "num_experts_per_tok": 3,
                                    "moe_intermediate_size": 24, "norm_topk_prob": True, "attention_bias": True,
                                    "mlp_only_layers": [1], "use_sliding_window": True, "sliding_window": 40}, {
        "not normalized": {"norm_topk_prob": False}}),
    "gpt-oss": ("GptOssConfig", {"head_dim": 24, "num_local_experts": 5, "num_experts_per_tok": 2,
                                 "intermediate_size": 24, "sliding_window": 12}
                | rope(YARN | {"truncate": False}), {
        "truncated": rope(YARN | {"truncate": True})}),
}


def config_of(cls, fields):
    fields = {k: v for k, v in (SIZES | fields).items() if v is not None}
    return getattr(transformers, cls)(**fields)


def draw(model, seed):
    """Values near 1 in every layer; norms are drawn around 1 (or what stands for it), biases around 0."""
    rng = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        values = torch.randn(p.shape, generator=rng)
        if name.endswith("bias"):
            values *= 4 if "gate_up" in name else 0.2  # some of a clamped gate are beyond the clamp
        elif name.endswith("sinks"):
            values *= 2
        elif p.dim() == 1:
            values = p.data.float() + 0.2 * values  # ones, or the zeros of norms that are held less 1
        elif "embed" in name or "wte" in name:
            values *= 0.7
        else:
            kind = type(model).__name__
            fan_in = p.shape[-1]  # experts lie [n_experts, out, in]
            if (kind.startswith("GPT2") and "h." in name) or (kind.startswith("GptOss") and p.dim() == 3):
                fan_in = p.shape[-2]
            values /= fan_in ** 0.5
        p.data = values.to(torch.bfloat16).float()


@torch.no_grad()
def answers(model, ids, rows=ROWS):
    logits = model(torch.tensor([ids]), use_cache=False).logits[0]
    greedy = []
    for _ in range(N_GREEDY):  # without a cache, so that nothing depends on it
        last = model(torch.tensor([ids + greedy]), use_cache=False).logits[0, -1]
        greedy.append(int(last.argmax()))
    return {"logits": [[float(f"{v:.7g}") for v in logits[r].tolist()] for r in rows], "greedy": greedy}


def make(name):
    cls, fields, variants = FAMILIES[name]
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = config_of(cls, fields)
    config.dtype = torch.bfloat16
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").float()
    draw(model, seed=list(FAMILIES).index(name))
    model.tie_weights()
    model.to(torch.bfloat16).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)

    ids = [int(i) for i in np.random.default_rng(7).integers(3, VOCAB, N_IDS)]
    load = lambda path: transformers.AutoModelForCausalLM.from_pretrained(
        path, dtype=torch.float32, attn_implementation="eager").eval()
    golden = {"ids": ids, "rows": ROWS} | answers(load(folder), ids)
    written = json.loads((folder / "config.json").read_text())
    for variant, changed in variants.items():
        other = Path("/tmp") / f"fovea-variant-{name}"
        shutil.rmtree(other, ignore_errors=True)
        shutil.copytree(folder, other)
        (other / "config.json").write_text(json.dumps(written | changed))
        short = ROWS[2:5] if variant != "dynamic" else ROWS[1:4]
        golden.setdefault("variants", {})[variant] = {"config": changed, "rows": short} | answers(load(other), ids, short)
        shutil.rmtree(other)
    (folder / "golden.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    size = sum(f.stat().st_size for f in folder.iterdir())
    print(f"{name}: {size // 1024} KB, {sorted(f.name for f in folder.iterdir())}")


def main():
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    for name in sys.argv[1:] or FAMILIES:
        make(name)


if __name__ == "__main__":
    main()
