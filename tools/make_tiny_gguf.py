#!/usr/bin/env python3
"""Writes the tiny random models of tests/data: right shapes, real file format, no sense.

    pip install gguf numpy
    tools/make_tiny_gguf.py llama tests/data/tiny-llama.gguf
    tools/make_tiny_gguf.py qwen2 tests/data/tiny-qwen2.gguf

The seed is fixed: the same gguf version writes the same bytes. Names of keys and tensors are those
of llama.cpp's converter. As that converter does, the rows of attn_q and attn_k of `llama` are
permuted within each head, so that the two numbers which RoPE turns together are neighbours
(0, 1), (2, 3), ...; `qwen2` keeps the Hugging Face order, which pairs i with i + head_dim / 2.
"""
import collections
import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Q

D_MODEL, D_FF, N_LAYERS, N_HEADS, N_KV_HEADS, N_CTX = 64, 128, 2, 4, 2, 512
HEAD_DIM = D_MODEL // N_HEADS
VOCAB_SIZE = 300
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# The text that the merges are learned from.
CORPUS = """The quick brown fox jumps over the lazy dog, and then the other dogs look at the fox.
In the beginning there was a file; the file had a header, and the header had a magic number.
def attention(queries, keys, values): return softmax(queries @ keys) @ values
It is the reader that makes the book, and it is the heads that make the attention.
""" * 2


def byte_letters():
    """GPT-2's printable letter for each byte."""
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    return {b: chr(b) if b in keep else chr(next(spare)) for b in range(256)}


def learn_merges(n):
    letters = byte_letters()
    words = collections.Counter(
        tuple(letters[b] for b in word.encode())
        for line in CORPUS.splitlines()
        for word in (" " + line).replace(" ", "\0 ").split("\0")
        if word
    )
    merges = []
    while len(merges) < n:
        pairs = collections.Counter()
        for word, count in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += count
        best = max(pairs, key=lambda p: (pairs[p], p))
        merges.append(best)
        merged = collections.Counter()
        for word, count in words.items():
            out, i = [], 0
            while i < len(word):
                step = 2 if word[i : i + 2] == best else 1
                out.append("".join(word[i : i + step]))
                i += step
            merged[tuple(out)] += count
        words = merged
    return merges


def permute(rows, n_heads):
    """Hugging Face's order of rotated rows to neighbours; see above."""
    d_out, d_in = rows.shape
    return rows.reshape(n_heads, 2, d_out // n_heads // 2, d_in).swapaxes(1, 2).reshape(d_out, d_in)


def main():
    arch, path = sys.argv[1:]
    llama = arch == "llama"
    rng = np.random.default_rng(20240229 if llama else 20240301)
    writer = gguf.GGUFWriter(path, arch)
    writer.add_type("model")
    writer.add_name(f"Tiny random {arch}")
    writer.add_license("apache-2.0")
    writer.add_block_count(N_LAYERS)
    writer.add_context_length(N_CTX)
    writer.add_embedding_length(D_MODEL)
    writer.add_feed_forward_length(D_FF)
    writer.add_head_count(N_HEADS)
    writer.add_head_count_kv(N_KV_HEADS)
    writer.add_rope_freq_base(1e4 if llama else 1e6)
    writer.add_layer_norm_rms_eps(1e-5 if llama else 1e-6)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_1 if llama else gguf.LlamaFileType.MOSTLY_Q5_0)
    if llama:
        writer.add_vocab_size(VOCAB_SIZE)
        writer.add_rope_dimension_count(HEAD_DIM)

    merges = learn_merges(VOCAB_SIZE - 256 - len(SPECIALS))
    plain = [*byte_letters().values(), *("".join(pair) for pair in merges)]
    tokens = SPECIALS + plain if llama else plain + SPECIALS  # first as SmolLM2 has them, last as Qwen
    first_special = tokens.index(SPECIALS[0])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm" if llama else "qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if t in SPECIALS else gguf.TokenType.NORMAL for t in tokens])
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(first_special + (1 if llama else 0))
    writer.add_eos_token_id(first_special + 2)
    writer.add_pad_token_id(first_special + (2 if llama else 0))
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    writer.add_quantization_version(2)

    def add(name, values, dtype):
        values = values.astype(np.float32)
        if dtype == Q.F32:
            writer.add_tensor(name, values)
        elif dtype == Q.F16:
            writer.add_tensor(name, values.astype(np.float16))
        else:
            writer.add_tensor(name, gguf.quants.quantize(values, dtype), raw_dtype=dtype)

    def matrix(d_out, d_in):
        return rng.standard_normal((d_out, d_in)) / np.sqrt(d_in) * 1.5

    def norm():
        return 1 + 0.2 * rng.standard_normal(D_MODEL)

    # Every stored kind of weight occurs; the second layer differs from the first.
    small, wide = (Q.Q4_1, Q.Q8_0) if llama else (Q.Q5_0, Q.Q8_0)
    add("token_embd.weight", rng.standard_normal((VOCAB_SIZE, D_MODEL)) * 0.5, Q.Q8_0)
    if llama:  # qwen2 is tied: no output.weight
        add("output.weight", matrix(VOCAB_SIZE, D_MODEL), Q.F16)
    for layer in range(N_LAYERS):
        kind = small if layer == 0 else wide
        block = f"blk.{layer}."
        order = permute if llama else lambda rows, n_heads: rows
        add(block + "attn_norm.weight", norm(), Q.F32)
        add(block + "ffn_down.weight", matrix(D_MODEL, D_FF), kind)
        add(block + "ffn_gate.weight", matrix(D_FF, D_MODEL), small)
        add(block + "ffn_up.weight", matrix(D_FF, D_MODEL), kind)
        add(block + "ffn_norm.weight", norm(), Q.F32)
        add(block + "attn_k.weight", order(matrix(N_KV_HEADS * HEAD_DIM, D_MODEL), N_KV_HEADS), Q.F16 if llama and layer else small)
        add(block + "attn_output.weight", matrix(D_MODEL, D_MODEL), kind)
        add(block + "attn_q.weight", order(matrix(D_MODEL, D_MODEL), N_HEADS), small)
        add(block + "attn_v.weight", matrix(N_KV_HEADS * HEAD_DIM, D_MODEL), wide)
        if not llama:
            add(block + "attn_q.bias", rng.standard_normal(D_MODEL), Q.F32)
            add(block + "attn_k.bias", rng.standard_normal(N_KV_HEADS * HEAD_DIM), Q.F32)
            add(block + "attn_v.bias", rng.standard_normal(N_KV_HEADS * HEAD_DIM), Q.F32)
    add("output_norm.weight", norm(), Q.F32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
