"""The oracle for model mathematics: `transformers` on the weights dequantised from a GGUF file.

Shared by make_logit_goldens.py and compare_logits.py. Needs torch, transformers, tokenizers and gguf
(none of them is needed to build or test Fovea). float32, eager attention: plain matmul, softmax, matmul.
"""
import hashlib
import os
from pathlib import Path

os.environ.setdefault("TQDM_DISABLE", "1")  # read when gguf and transformers are imported

import gguf
import numpy as np
import torch
import transformers

QWEN2_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
               r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def find_model(name_or_path):
    """A path, or a name in the store: $FOVEA_MODELS, else ~/.local/share/fovea/models."""
    if Path(name_or_path).is_file():
        return Path(name_or_path)
    store = Path(os.environ.get("FOVEA_MODELS") or Path.home() / ".local/share/fovea/models")
    path = store / f"{name_or_path}.gguf"
    if not path.is_file():
        raise SystemExit(f"no model {name_or_path}: neither a file nor {path}")
    return path


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def field(reader, key, default=None):
    return reader.fields[key].contents() if key in reader.fields else default


def load(path, threads=2):
    """The model in float32, after checking that the loader took every number and weight from the file."""
    torch.set_num_threads(threads)
    path = Path(path)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    model = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager").eval()
    check_loaded(model, path)
    return model


def check_loaded(model, path):
    """The loader guesses defaults for keys it does not know: compare what matters with the file itself."""
    reader = gguf.GGUFReader(path)
    arch = field(reader, "general.architecture")
    config = model.config
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    angles = config.rope_parameters.get("full_attention", config.rope_parameters)  # layers with windows have their own
    expected = {
        "block_count": config.num_hidden_layers, "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size, "attention.head_count": heads,
        "attention.head_count_kv": kv_heads, "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "rope.freq_base": angles["rope_theta"],
    }
    for key, used in expected.items():
        stored = field(reader, f"{arch}.{key}")
        if stored is not None and not np.isclose(stored, used, rtol=1e-6, atol=0):
            raise SystemExit(f"{path}: {arch}.{key} is {stored} in the file but transformers uses {used}")
    scaling = field(reader, f"{arch}.rope.scaling.type", "none")
    if angles["rope_type"] != "default" or scaling != "none":
        raise SystemExit(f"{path}: rope scaling ({scaling}) is not covered by this oracle")

    stored = {t.name: t for t in reader.tensors}
    state = model.state_dict()
    last = config.num_hidden_layers - 1
    pairs = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
             f"blk.{last}.ffn_down.weight": f"model.layers.{last}.mlp.down_proj.weight",
             f"blk.{last}.attn_v.weight": f"model.layers.{last}.self_attn.v_proj.weight",
             f"blk.{last}.attn_q.weight": f"model.layers.{last}.self_attn.q_proj.weight",
             f"blk.{last}.attn_k.weight": f"model.layers.{last}.self_attn.k_proj.weight",
             f"blk.{last}.attn_k.bias": f"model.layers.{last}.self_attn.k_proj.bias"}
    for name, theirs in pairs.items():
        if name not in stored:
            continue
        t = stored[name]
        w = gguf.dequantize(t.data, t.tensor_type).reshape(state[theirs].shape)
        if arch == "llama" and ("attn_q" in name or "attn_k" in name):
            # In the file the two halves of a head are interleaved (pairs 2i, 2i+1); transformers wants halves.
            n = heads if "attn_q" in name else kv_heads
            w = w.reshape(n, w.shape[0] // n // 2, 2, -1).swapaxes(1, 2).reshape(w.shape)
        if arch.startswith("gemma") and "norm" in name:
            w = w - 1  # transformers adds it again
        if not np.array_equal(w, state[theirs].numpy()):
            raise SystemExit(f"{path}: {name} dequantised by gguf differs from what transformers loaded")


def tokenizer(path):
    """A fast tokenizer from the vocabulary and merges in the file and the published pre-tokeniser."""
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers
    reader = gguf.GGUFReader(path)
    pieces = field(reader, "tokenizer.ggml.tokens")
    merges = [tuple(m.split(" ")) for m in field(reader, "tokenizer.ggml.merges")]
    tok = Tokenizer(models.BPE({p: i for i, p in enumerate(pieces)}, merges, ignore_merges=False))
    pre = field(reader, "tokenizer.ggml.pre")
    if pre == "qwen2":
        tok.normalizer = normalizers.NFC()
        split = [pre_tokenizers.Split(Regex(QWEN2_SPLIT), "isolated")]
        tok.pre_tokenizer = pre_tokenizers.Sequence(
            split + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    elif pre == "smollm":
        tok.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    else:
        raise SystemExit(f"{path}: no oracle for the pre-tokeniser {pre}")
    kinds = field(reader, "tokenizer.ggml.token_type")
    tok.add_special_tokens([AddedToken(p, normalized=False) for p, k in zip(pieces, kinds) if k == 3])
    tok.add_tokens([AddedToken(p, normalized=False) for p, k in zip(pieces, kinds) if k == 4])
    return tok
