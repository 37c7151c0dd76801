#!/usr/bin/env python3
"""Checks that a GGUF file of each tiny model of tests/data/families answers as its folder does.

  python3 tools/check_family_gguf.py build/fovea [FAMILY ...]

Files are written with the `gguf` package in the layout of its public converters: rows of q and k permuted where the
family's are, norms whole, fused matrices as the family has them. Not for mistral, whose windows no GGUF key can say:
its converters call it llama.
"""
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import load_file

FAMILIES = Path(__file__).resolve().parent.parent / "tests/data/families"
PERMUTED = {"llama", "mixtral", "smollm3", "granite"}
NAMES = {"phi2": "PHI2", "phi3": "PHI3", "gptneox": "GPTNEOX", "gpt2": "GPT2", "smollm3": "SMOLLM3", "olmo2": "OLMO2",
         "stablelm-parallel": "STABLELM", "mixtral": "LLAMA", "gpt-oss": "GPT_OSS"}
GPT_OSS = {"gate_up_proj": ("ffn_gate_exps", "ffn_up_exps"), "down_proj": ("ffn_down_exps",)}


def permute(w, heads):
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def with_experts(name, tensors):
    """Those of all experts as one tensor, under the name that the converters give it; (name, value) pairs."""
    groups = {}
    for key, value in tensors.items():
        found = re.fullmatch(r"(.*\.experts\.)(\d+)\.(.*)", key)
        if found:
            groups.setdefault(found[1] + found[3], {})[int(found[2])] = value
        elif found := re.fullmatch(r"model\.layers\.(\d+)\.mlp\.experts\.(\w+_proj)(_bias)?", key):
            layer, matrix, bias = found.groups()
            if not bias:
                value = value.swapaxes(1, 2)  # [n_experts, in, out] there
            parts = [value[:, ::2], value[:, 1::2]] if matrix == "gate_up_proj" else [value]
            for where, part in zip(GPT_OSS[matrix], parts):
                yield f"blk.{layer}.{where}.{'bias' if bias else 'weight'}", part
        else:
            yield key, value
    for key, experts in groups.items():
        yield key, np.stack([experts[e] for e in range(len(experts))])


def convert(name, out):
    folder = FAMILIES / name
    config = json.loads((folder / "config.json").read_text())
    tensors = {k: v.float().numpy() for k, v in load_file(folder / "model.safetensors").items()}
    get = lambda *fields, default=None: next((config[f] for f in fields if config.get(f) is not None), default)
    arch = getattr(gguf.MODEL_ARCH, NAMES.get(name, name.upper()))
    writer = gguf.GGUFWriter(out, gguf.MODEL_ARCH_NAMES[arch])
    layers, heads = get("num_hidden_layers", "n_layer"), get("num_attention_heads", "n_head")
    kv_heads, width = get("num_key_value_heads", default=heads), get("hidden_size", "n_embd")
    head_dim = get("head_dim", default=width // heads)
    writer.add_block_count(layers)
    writer.add_context_length(get("max_position_embeddings", "n_positions"))
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(get("intermediate_size", "n_inner", default=4 * width))
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    if (eps := get("rms_norm_eps")) is not None:
        writer.add_layer_norm_rms_eps(eps)
    else:
        writer.add_layer_norm_eps(get("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"))
    rope = get("rope_parameters", default={})
    full, sliding = rope.get("full_attention", rope), rope.get("sliding_attention")
    if full:
        writer.add_rope_freq_base(full["rope_theta"])
        turned = int(head_dim * full.get("partial_rotary_factor", 1.0))
        writer.add_rope_dimension_count(turned)
        kind = full["rope_type"]
        if kind == "llama3":
            low, high, factor = full["low_freq_factor"], full["high_freq_factor"], full["factor"]
            theta = full["rope_theta"] ** (-np.arange(0, turned, 2) / turned)
            mix = np.clip((full["original_max_position_embeddings"] * theta / (2 * np.pi) - low) / (high - low), 0, 1)
            writer.add_tensor("rope_freqs.weight", (1 / ((1 - mix) / factor + mix)).astype(np.float32))
        elif kind == "linear":
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(full["factor"])
        elif kind == "yarn":
            writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
            writer.add_rope_scaling_factor(full["factor"])
            writer.add_rope_scaling_orig_ctx_len(full["original_max_position_embeddings"])
        elif kind == "longrope":
            original = full["original_max_position_embeddings"]
            factor = config["max_position_embeddings"] / original
            writer.add_rope_scaling_orig_ctx_len(original)
            writer.add_rope_scaling_attn_factors(float(np.sqrt(1 + np.log(factor) / np.log(original))))
            writer.add_tensor("rope_factors_long.weight", np.array(full["long_factor"], np.float32))
            writer.add_tensor("rope_factors_short.weight", np.array(full["short_factor"], np.float32))
    if sliding:
        writer.add_float32(f"{writer.arch}.rope.freq_base_swa", sliding["rope_theta"])
    types = get("layer_types", default=[])
    if "sliding_attention" in types or (get("sliding_window") and not types):
        writer.add_sliding_window(config["sliding_window"])
        if types:
            writer.add_array(f"{writer.arch}.attention.sliding_window_pattern", [t == "sliding_attention" for t in types])
    numbers = {"attn_logit_softcapping": "attn_logit_softcapping", "final_logit_softcapping": "final_logit_softcapping",
               "embedding_multiplier": "embedding_scale", "attention_multiplier": "attention.scale",
               "residual_multiplier": "residual_scale", "logits_scaling": "logit_scale",
               "query_pre_attn_scalar": "query_pre_attn_scalar"}  # the last is no key of GGUF's; its readers go by sizes
    for field, key in numbers.items():
        if get(field) is not None:
            writer.add_float32(f"{writer.arch}.{key}", float(config[field]))
    if get("use_parallel_residual") is not None:
        writer.add_parallel_residual(config["use_parallel_residual"])
    if get("no_rope_layers"):
        writer.add_array(f"{writer.arch}.no_rope_layers", [int(n) for n in config["no_rope_layers"]])

    counts = {"num_local_experts": writer.add_expert_count, "num_experts": writer.add_expert_count,
              "num_experts_per_tok": writer.add_expert_used_count,
              "moe_intermediate_size": writer.add_expert_feed_forward_length,
              "shared_expert_intermediate_size": writer.add_expert_shared_feed_forward_length}
    for field, add in counts.items():
        if get(field) is not None:
            add(config[field])
    if get("mlp_only_layers"):  # no key of GGUF's
        writer.add_array(f"{writer.arch}.mlp_only_layers", config["mlp_only_layers"])

    names = gguf.get_tensor_name_map(arch, layers)
    plain = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, layers)  # dense layers among those with experts
    for key, value in with_experts(name, tensors):
        suffixes = (".weight", ".bias")
        where = key if key.startswith("blk.") else names.get_name(key, suffixes) or plain.get_name(key, suffixes)
        if key.endswith("self_attn.sinks"):
            where = f"blk.{key.split('.')[2]}.attn_sinks.weight"
        if where is None:
            raise SystemExit(f"{name}: no GGUF name for {key}")
        if name in PERMUTED and (".q_proj." in key or ".k_proj." in key):
            value = permute(value, heads if ".q_proj." in key else kv_heads)
        if name.startswith("gemma") and key.endswith("norm.weight"):
            value = value + 1
        if name == "gpt2" and key.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
            value = value.T
        if name == "gptneox" and ".query_key_value." in key:
            value = value.reshape(heads, 3, head_dim, *value.shape[1:]).swapaxes(0, 1).reshape(value.shape)
        value = np.ascontiguousarray(value)
        writer.add_tensor(where, value)
    vocab = config["vocab_size"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([chr(0x100 + i) for i in range(vocab)])
    writer.add_token_types([1] * vocab)
    writer.add_token_merges([])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def logits(fovea, model, ids, out):
    subprocess.run([fovea, "logits", "-m", model, "--ids", ids, "--numerics", "exact", "-o", out], check=True,
                   stdout=subprocess.DEVNULL)
    return np.load(out)


def main():
    fovea, worst = sys.argv[1], 0.0
    for name in sys.argv[2:] or sorted(f.name for f in FAMILIES.iterdir() if f.name != "mistral"):
        golden = json.loads((FAMILIES / name / "golden.json").read_text())
        with tempfile.TemporaryDirectory() as temporary:
            path, ids, out = (Path(temporary) / n for n in ("model.gguf", "ids.json", "logits.npy"))
            convert(name, path)
            ids.write_text(json.dumps(golden["ids"]))
            found = logits(fovea, path, ids, out)
        off = float(np.abs(found[golden["rows"]] - np.array(golden["logits"])).max())
        print(f"{name}: {off:.2e}")
        worst = max(worst, off)
    sys.exit(worst > 1e-4)


if __name__ == "__main__":
    main()
