"""Writes tests/golden/hooks/<model>.json: every hooked value of a forward pass, with `transformers` as the oracle.

  python3 tools/make_hook_goldens.py tests/data/tiny-llama.gguf tests/data/tiny-qwen2.gguf smollm2-135m

Each tensor is kept as its shape, its Euclidean norm, its largest magnitude, and N values at the flat indices
i * (elements - 1) // (N - 1). q and k (rotated or not) are in the order of `transformers`, where column i turns with
column i + head_dim/2; llama GGUF files interleave the two (docs/hooks.md), and the test puts Fovea's columns back.
Minus infinity is null.
"""
import argparse
import json
from pathlib import Path

import torch
import transformers

import reference

OUT = Path(__file__).resolve().parent.parent / "tests/golden/hooks"


@torch.inference_mode()
def record(model, ids):
    """{hook name: tensor without the batch dimension}, from module inputs and outputs and the formulas between them."""
    config, values, handles = model.config, {}, []
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    dim = getattr(config, "head_dim", None) or config.hidden_size // heads

    def keep(module, name=None, name_in=None):
        def hook(_module, args, output):
            if name_in:
                values[name_in] = args[0][0]
            if name:
                values[name] = (output[0] if isinstance(output, tuple) else output)[0]
        handles.append(module.register_forward_hook(hook))

    keep(model.model.embed_tokens, "hook_embed")
    keep(model.model.norm, "unembed.hook_in", "ln_final.in")
    keep(model.lm_head, "unembed.hook_out")
    for i, layer in enumerate(model.model.layers):
        at = f"blocks.{i}."
        keep(layer, at + "hook_resid_post", at + "hook_resid_pre")
        keep(layer.self_attn.q_proj, at + "attn.hook_q")
        keep(layer.self_attn.k_proj, at + "attn.hook_k")
        keep(layer.self_attn.v_proj, at + "attn.hook_v")
        keep(layer.self_attn.o_proj, at + "hook_attn_out", at + "attn.hook_z")
        keep(layer.post_attention_layernorm, None, at + "hook_resid_mid")
        keep(layer.mlp.gate_proj, at + "mlp.hook_pre")
        keep(layer.mlp.up_proj, at + "mlp.hook_pre_linear")
        keep(layer.mlp.down_proj, at + "hook_mlp_out", at + "mlp.hook_post")
    output = model(torch.tensor([ids]), output_attentions=True)
    for handle in handles:
        handle.remove()

    rotary = transformers.models.llama.modeling_llama.apply_rotary_pos_emb
    n = len(ids)
    cos, sin = model.model.rotary_emb(values["hook_embed"][None], torch.arange(n)[None])
    causal = torch.full((n, n), float("-inf")).triu(1)

    def norm_parts(x, name, eps):
        scale = (x.pow(2).mean(-1, keepdim=True) + eps).sqrt()
        values[name + ".hook_scale"], values[name + ".hook_normalized"] = scale, x / scale

    for i, layer in enumerate(model.model.layers):
        at = f"blocks.{i}."
        x = values[at + "hook_resid_pre"]
        values[at + "hook_attn_in"], values[at + "hook_mlp_in"] = x, values[at + "hook_resid_mid"]
        values[at + "hook_q_input"] = x[:, None].expand(n, heads, -1)
        for name in "kv":
            values[f"{at}hook_{name}_input"] = x[:, None].expand(n, kv_heads, -1)
        norm_parts(x, at + "ln1", config.rms_norm_eps)
        norm_parts(values[at + "hook_resid_mid"], at + "ln2", config.rms_norm_eps)
        q, k, v = (values[f"{at}attn.hook_{name}"].reshape(n, count, dim)
                   for name, count in (("q", heads), ("k", kv_heads), ("v", kv_heads)))
        rot_q, rot_k = rotary(q.transpose(0, 1)[None], k.transpose(0, 1)[None], cos, sin)
        scores = rot_q[0] @ rot_k[0].repeat_interleave(heads // kv_heads, 0).transpose(1, 2) * dim ** -0.5 + causal
        pattern = output.attentions[i][0]
        z = values[at + "attn.hook_z"].reshape(n, heads, dim)
        # The formulas above are right if they give what the model itself went on with.
        torch.testing.assert_close(scores.softmax(-1), pattern, rtol=1e-4, atol=1e-5)
        mine = (pattern @ v.transpose(0, 1).repeat_interleave(heads // kv_heads, 0)).transpose(0, 1)
        torch.testing.assert_close(mine, z, rtol=1e-3, atol=1e-4)
        w_o = layer.self_attn.o_proj.weight.T.reshape(heads, dim, -1)
        result = torch.einsum("nhd,hdm->nhm", z, w_o)
        torch.testing.assert_close(result.sum(1), values[at + "hook_attn_out"], rtol=1e-3, atol=1e-3)
        values |= {at + "attn.hook_q": q, at + "attn.hook_k": k, at + "attn.hook_v": v, at + "attn.hook_z": z,
                   at + "attn.hook_rot_q": rot_q[0].transpose(0, 1), at + "attn.hook_rot_k": rot_k[0].transpose(0, 1),
                   at + "attn.hook_attn_scores": scores, at + "attn.hook_pattern": pattern, at + "attn.hook_result": result}
    norm_parts(values.pop("ln_final.in"), "ln_final", config.rms_norm_eps)
    return values


def digits(x):
    return float(f"{x:.7g}") if x != float("-inf") else None


def kept(x, n_values):
    flat = x.contiguous().reshape(-1)
    finite = flat[torch.isfinite(flat)].double()
    at = [i * (len(flat) - 1) // (n_values - 1) for i in range(n_values)]
    return {"shape": list(x.shape), "norm": digits(finite.norm().item()), "max_abs": digits(finite.abs().max().item()),
            "values": [digits(v) for v in flat[at].tolist()]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", help="name in the store, or path")
    args = parser.parse_args()
    for name in args.models:
        path = reference.find_model(name)
        model = reference.load(path)
        tiny = model.config.num_hidden_layers <= 4
        n, vocab, last = (13 if tiny else 40), model.config.vocab_size, model.config.num_hidden_layers - 1
        ids = [(7 + 37 * i * i + 11 * i) % vocab for i in range(n)]
        layers = range(last + 1) if tiny else (0, last // 2, last)
        wanted = tuple(f"blocks.{i}." for i in layers)
        values = {k: v for k, v in record(model, ids).items() if not k.startswith("blocks.") or k.startswith(wanted)}
        golden = {"model": path.stem, "sha256": reference.sha256(path), "ids": ids,
                  "oracle": f"transformers {transformers.__version__}, torch {torch.__version__}, float32, eager",
                  "hooks": {k: kept(v, 61) for k, v in sorted(values.items())}}
        OUT.mkdir(parents=True, exist_ok=True)
        text = json.dumps(golden, separators=(",", ":")).replace('},"', '},\n"')
        (OUT / f"{path.stem}.json").write_text(text + "\n")


main()
