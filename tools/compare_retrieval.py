#!/usr/bin/env python3
"""Scores of retrieval heads by plain Python on `transformers`, beside those of a head profile of Fovea.

usage: tools/compare_retrieval.py MODEL [--lengths 512,1024] [--depths 1] [--plain] [--profile FILE]

An independent look at the same definition (arXiv:2404.15574, sec. 2): its own prompts from the same needles and
texts, its own tokenizer, whole attention rows in float32, no shared code. --plain asks in the words of the authors'
program ("Based on the content of the book") without a chat template. Needs what tools/reference.py needs; a sample
takes seconds. Prints the share of heads with 0.1 or more, of heads at exactly 0, the best heads, and Pearson's
correlation with the profile (profiles/MODEL.json unless another is named).
"""
import argparse
import json
import random
import re
from pathlib import Path

import numpy as np
import reference
import torch
from tokenizers import decoders

TOP = Path(__file__).resolve().parent.parent
SYSTEM = ("You answer questions about the text that the user gives. Answer in one short sentence, with the words of "
          "the text.")
NEEDLES = [
    ("The secret ingredient of Marlow's blueberry pancakes is {}.",
     "What is the secret ingredient of Marlow's blueberry pancakes?",
     "a spoonful of smoked paprika and crushed pine needles"),
    ("The violin teacher Ottoline Brask hid her silver compass {}.",
     "Where did the violin teacher Ottoline Brask hide her silver compass?",
     "under the third cherry tree behind the old bakery"),
    ("Every Tuesday the lighthouse keeper of Veldra feeds the geese with {}.",
     "What does the lighthouse keeper of Veldra feed the geese with every Tuesday?",
     "boiled chestnuts, honey and stale gingerbread"),
    ("The winter coat of the clockmaker Ruiz was sewn from {}.",
     "What was the winter coat of the clockmaker Ruiz sewn from and lined with?",
     "orange sailcloth and lined with the feathers of two hundred owls"),
]


def recall(text, wanted):
    words, count = re.findall(r"\w+", text.lower()), 0
    wanted = re.findall(r"\w+", wanted.lower())
    for word in wanted:
        if word in words:
            words.remove(word)
            count += 1
    return count / len(wanted)


def make_prompt(ids_of, text_of, hay, length, depth, needle, plain):
    sentence, question, answer = needle
    hay = text_of(ids_of(hay)[:length - 120])
    ends = [m.end() for m in re.finditer(r"[.?!](?=\s)", hay[:int(depth * len(hay))])]
    at = ends[-1] if ends else 0
    text = hay[:at] + " " * (at > 0) + sentence.format(answer) + " " * (at == 0) + hay[at:]
    if plain:
        prompt = f"<book>{text}</book>\nBased on the content of the book, {question}\nAnswer:"
    else:
        prompt = (f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{text}\n\nQuestion: {question}"
                  "<|im_end|>\n<|im_start|>assistant\n")
    ids, wanted = ids_of(prompt), ids_of(" " + answer)
    for begin in range(len(ids) - len(wanted) + 1):
        if len(set(ids[begin:begin + len(wanted)]) & set(wanted)) > 0.9 * len(set(wanted)):
            return ids, begin, begin + len(wanted)
    raise SystemExit(f"the needle is not in its prompt: {answer}")


def answer_scores(model, text_of, ends, ids, begin, end):
    """The answer, and for every head the share of [begin, end) that it copied."""
    layers, heads = model.config.num_hidden_layers, model.config.num_attention_heads
    copied = np.zeros((layers, heads, end - begin), bool)
    cache = model(torch.tensor([ids[:-1]]), use_cache=True).past_key_values
    token, given = ids[-1], []
    for _ in range(50):
        out = model(torch.tensor([[token]]), past_key_values=cache, use_cache=True, output_attentions=True)
        cache, token = out.past_key_values, int(out.logits[0, -1].argmax())
        for layer, rows in enumerate(out.attentions):
            for head, key in enumerate(rows[0, :, -1].argmax(-1).tolist()):
                if begin <= key < end and ids[key] == token:
                    copied[layer, head, key - begin] = True
        if "\n" in text_of([token]) or token in ends:
            break
        given.append(token)
    return text_of(given), copied.mean(-1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model")
    parser.add_argument("--lengths", default="512,1024")
    parser.add_argument("--depths", type=int, default=1)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--profile", type=Path)
    options = parser.parse_args()
    path = reference.find_model(options.model)
    tokenizer = reference.tokenizer(path)
    tokenizer.decoder = decoders.ByteLevel()
    model = reference.load(path)
    ends = {tokenizer.token_to_id(piece) for piece in ("<|im_end|>", "<|endoftext|>")}

    def ids_of(text):
        return tokenizer.encode(text, add_special_tokens=False).ids

    def text_of(ids):
        return tokenizer.decode(ids, skip_special_tokens=False)

    rng = random.Random(5)
    hays = [Path("/usr/share/common-licenses", name).read_text() for name in ("GPL-2", "MPL-2.0", "Apache-2.0")]
    accepted, asked = [], 0
    with torch.no_grad():
        for length in map(int, options.lengths.split(",")):
            for needle in NEEDLES:
                hay = rng.choice([h for h in hays if len(h) > 7 * length])
                starts = [m.end() for m in re.finditer(r"\n\n\s*", hay) if len(hay) - m.end() > 6 * length]
                hay = hay[rng.choice(starts or [0]):]
                for depth in np.linspace(0, 1, options.depths) if options.depths > 1 else [0.5]:
                    ids, begin, end = make_prompt(ids_of, text_of, hay, length, depth, needle, options.plain)
                    text, scores = answer_scores(model, text_of, ends, ids, begin, end)
                    asked += 1
                    found = recall(text, needle[2]) > 0.5
                    print(f"{len(ids):5} tokens, depth {depth:.2f}: {'found' if found else 'not found'}: {text}",
                          flush=True)
                    if found:
                        accepted.append(scores)
    if not accepted:
        raise SystemExit(f"no data: none of {asked} answers held the needle")
    scores = np.mean(accepted, 0)
    best = sorted(np.ndindex(scores.shape), key=lambda at: -scores[at])[:10]
    print(f"{len(accepted)} of {asked} found; {100 * (scores >= 0.1).mean():.1f} % of the heads at 0.1 or more, "
          f"{100 * (scores == 0).mean():.1f} % at 0; best: "
          + ", ".join(f"{layer}.{head} {scores[layer, head]:.2f}" for layer, head in best))
    profile = options.profile or TOP / "profiles" / f"{path.stem}.json"
    theirs = np.zeros_like(scores)
    for head in json.loads(profile.read_text())["heads"]:
        theirs[head["layer"], head["head"]] = head["retrieval"]
    print(f"Pearson with {profile.name}: {np.corrcoef(scores.ravel(), theirs.ravel())[0, 1]:.4f}")


main()
