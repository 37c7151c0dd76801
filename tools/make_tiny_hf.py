#!/usr/bin/env python3
"""Writes the tiny random folders of tests/data as `save_pretrained` does, and what they must answer.

    pip install torch transformers tokenizers
    tools/make_tiny_hf.py                 tests/data/tiny-*-hf and tests/golden/logits/tiny-*-hf.json

`tiny-llama-hf` is one file of float32, its unembedding apart; `tiny-qwen2-hf` is bfloat16 in shards, tied, with
biases and norms that are not what a fresh model has.
"""
import json
import os
import shutil
from pathlib import Path

os.environ.setdefault("TQDM_DISABLE", "1")

import tokenizers
import torch
import transformers

ROOT = Path(__file__).resolve().parent.parent
VOCAB_SIZE, N_GREEDY = 300, 32
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CORPUS = ["The quick brown fox jumps over the lazy dog, and then the other dogs look at the fox.",
          "In the beginning there was a file; the file had a header, and the header had a magic number.",
          "def attention(queries, keys, values): return softmax(queries @ keys) @ values"]


def models():
    sizes = dict(vocab_size=VOCAB_SIZE, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                 num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512, bos_token_id=1,
                 eos_token_id=2, pad_token_id=0)
    yield "tiny-llama-hf", transformers.LlamaConfig(**sizes), torch.float32, "10MB"
    yield "tiny-qwen2-hf", transformers.Qwen2Config(**sizes, tie_word_embeddings=True), torch.bfloat16, "32KB"


def tokenizer():
    inner = tokenizers.Tokenizer(tokenizers.models.BPE())
    inner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = tokenizers.decoders.ByteLevel()
    inner.train_from_iterator(CORPUS, tokenizers.trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE, special_tokens=SPECIALS, show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()))
    out = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, bos_token=SPECIALS[1], eos_token=SPECIALS[2],
                                               pad_token=SPECIALS[0])
    out.chat_template = TEMPLATE
    return out


def digits(x):
    return float(f"{float(x):.7g}")


@torch.inference_mode()
def golden(folder):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager").eval()
    ids = [(7 + 37 * i * i + 11 * i) % VOCAB_SIZE for i in range(40)]
    logits = model(torch.tensor([ids])).logits[0]
    at = [0, 1, 20, 31, 32, 39]
    tokens = list(ids)
    for _ in range(N_GREEDY):
        tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
    exact = model.double()(torch.tensor([ids])).logits[0]
    return {"model": folder.name, "oracle": f"transformers {transformers.__version__}, torch {torch.__version__}, "
            "float32, eager", "ids": ids, "greedy": tokens[len(ids):], "positions": at,
            "float64_diff": float(f"{(exact - logits).abs().max().item():.2g}"),
            "logits": [[digits(x) for x in row] for row in logits[at]]}


def main():
    transformers.logging.set_verbosity_error()
    for seed, (name, config, dtype, shard) in enumerate(models()):
        folder = ROOT / "tests/data" / name
        shutil.rmtree(folder, ignore_errors=True)
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for key, weight in model.named_parameters():
                weight.normal_(1 if "norm" in key else 0, 0.3 if weight.ndim == 1 else weight.shape[-1]**-0.5)
        model.to(dtype).save_pretrained(folder, max_shard_size=shard)
        tokenizer().save_pretrained(folder)
        out = ROOT / "tests/golden/logits" / f"{name}.json"
        out.write_text(json.dumps(golden(folder), separators=(",", ":")) + "\n")
        print(f"{folder}: {sum(f.stat().st_size for f in folder.iterdir())} bytes; {out.stat().st_size}")


main()
