#!/usr/bin/env python3
"""Writes tests/golden/gradients.bin: a two-layer random llama, one batch, its loss and all gradients.

    tools/make_gradient_golden.py [OUTPUT]        needs torch and transformers

Layout (little endian): uint32 bytes of the header; the header, JSON:
    {"tokens": [...], "loss": x, "tensors": [{"name", "shape", "at"}]}
then float32 values; `at` counts floats from the first. A name ends in ".weight" for a parameter
and in ".weight.grad" for its gradient. The loss is the mean over the next tokens.
"""
import json
import pathlib
import struct
import sys

import torch
from transformers import LlamaConfig, LlamaForCausalLM

SEED = 20
N_TOKENS = 24


def main():
    default = pathlib.Path(__file__).resolve().parent.parent / "tests/golden/gradients.bin"
    output = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    config = LlamaConfig(
        vocab_size=97, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, rope_theta=10000.0, rms_norm_eps=1e-5,
        tie_word_embeddings=False, attn_implementation="eager")
    model = LlamaForCausalLM(config).double()  # double: what is compared is our rounding, not torch's
    with torch.no_grad():
        for name, p in model.named_parameters():
            # Larger than the usual initial values, so that attention is far from uniform.
            p.normal_(1.0 if "norm" in name else 0.0, 0.2)
            p.copy_(p.float().double())
    tokens = torch.randint(0, config.vocab_size, (1, N_TOKENS))
    logits = model(input_ids=tokens).logits[0]
    loss = torch.nn.functional.cross_entropy(logits[:-1], tokens[0, 1:])
    loss.backward()

    entries, values, at = [], [], 0
    for name, p in model.named_parameters():
        for suffix, tensor in (("", p.detach()), (".grad", p.grad)):
            entries.append({"name": name + suffix, "shape": list(tensor.shape), "at": at})
            values.append(tensor.float().numpy().astype("<f4").tobytes())
            at += tensor.numel()
    header = json.dumps({"tokens": tokens[0].tolist(), "loss": loss.item(), "tensors": entries}).encode()
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(struct.pack("<I", len(header)) + header + b"".join(values))
    print(f"{output}: loss {loss.item():.6f}, {at} floats, {output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
