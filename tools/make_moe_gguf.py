#!/usr/bin/env python3
"""Writes a random mixture of experts for benchmarks: the shape of Mixtral, small enough for any machine.

    pip install gguf numpy
    tools/make_moe_gguf.py OUT.gguf [q8_0|f16|f32]
    build/fovea bench -m OUT.gguf -p 512 -n 64
    python3 bench/peers.py -m OUT.gguf -p 512 -d 0

8 layers, width 512, 16 experts of width 1,408, of which every token goes to 2; 20,480 tokens. The seed is fixed.
"""
import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Q

import make_tiny_gguf as tiny

D_MODEL, D_FF, N_LAYERS, N_HEADS, N_KV_HEADS, N_CTX, VOCAB = 512, 1408, 8, 8, 2, 4096, 20480
N_EXPERTS, N_USED = 16, 2


def main():
    path, kind = sys.argv[1], Q[(sys.argv[2] if len(sys.argv) > 2 else "q8_0").upper()]
    rng = np.random.default_rng(20240401)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("model")
    writer.add_name("Random mixture of experts")
    writer.add_block_count(N_LAYERS)
    writer.add_context_length(N_CTX)
    writer.add_embedding_length(D_MODEL)
    writer.add_feed_forward_length(D_FF)
    writer.add_head_count(N_HEADS)
    writer.add_head_count_kv(N_KV_HEADS)
    writer.add_rope_dimension_count(D_MODEL // N_HEADS)
    writer.add_rope_freq_base(1e4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_expert_count(N_EXPERTS)
    writer.add_expert_used_count(N_USED)
    writer.add_vocab_size(VOCAB)
    merges = tiny.learn_merges(40)
    words = [*tiny.byte_letters().values(), *("".join(pair) for pair in merges)]
    tokens = tiny.SPECIALS + words + [f"<|{i}|>" for i in range(VOCAB - len(words) - len(tiny.SPECIALS))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if t.startswith("<|") else gguf.TokenType.NORMAL for t in tokens])
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(tiny.TEMPLATE)

    def add(name, shape, dtype=kind):
        values = rng.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(shape[-1]))
        if dtype == Q.F32:
            writer.add_tensor(name, values)
        elif dtype == Q.F16:
            writer.add_tensor(name, values.astype(np.float16))
        else:
            writer.add_tensor(name, gguf.quants.quantize(values, dtype), raw_dtype=dtype)

    kv = N_KV_HEADS * D_MODEL // N_HEADS
    add("token_embd.weight", (VOCAB, D_MODEL))
    for layer in range(N_LAYERS):
        block = f"blk.{layer}."
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{block}{norm}.weight", np.ones(D_MODEL, np.float32))
        add(block + "attn_q.weight", (D_MODEL, D_MODEL))
        add(block + "attn_k.weight", (kv, D_MODEL))
        add(block + "attn_v.weight", (kv, D_MODEL))
        add(block + "attn_output.weight", (D_MODEL, D_MODEL))
        add(block + "ffn_gate_inp.weight", (N_EXPERTS, D_MODEL), Q.F32)
        add(block + "ffn_gate_exps.weight", (N_EXPERTS, D_FF, D_MODEL))
        add(block + "ffn_up_exps.weight", (N_EXPERTS, D_FF, D_MODEL))
        add(block + "ffn_down_exps.weight", (N_EXPERTS, D_MODEL, D_FF))
    writer.add_tensor("output_norm.weight", np.ones(D_MODEL, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
