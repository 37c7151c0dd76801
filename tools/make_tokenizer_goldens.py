#!/usr/bin/env python3
"""Writes tests/golden/tokenizers.json and tests/golden/tokens/splits.json: small tokenizers of every kind, and what the published libraries make of texts.

    pip install tokenizers sentencepiece
    tools/make_tokenizer_goldens.py

dropped   characters that are taken out of the mixed text: those of the newest Unicode
texts     short texts; besides them tests/golden/tokens/mixed.txt is read, in blocks of 40 lines
models    "model" of a tokenizer.json by name
json      NAME: {model, rest of the tokenizer.json, ids of each text, a hash of ids a block, texts that ids decode to}
splits.json  how each pre-tokeniser of GGUF cuts the mixed text, a block of 10 lines at a time: [number of words, a sum
             that depends on every cut]
files     NAME: {base64 of a tokenizer.model, its configuration, and the same}
"""
import base64
import json
import unicodedata
from pathlib import Path

import tokenizer_cases as cases

OUT = Path(__file__).resolve().parent.parent / "tests/golden/tokenizers.json"


def id_hash(ids):
    h = 14695981039346656037
    for i in ids:
        h = (h ^ i) * 1099511628211 % 2**64
    return h


def blocks():
    lines = cases.training_lines()
    return ["\n".join(lines[i:i + 40]) for i in range(0, len(lines), 40)]


def splits():
    """How each rule cuts blocks of 10 lines."""
    from tokenizers import Regex, pre_tokenizers as p
    lines = cases.MIXED.read_bytes().decode().split("\n")
    texts = ["\n".join(lines[i:i + 10]) for i in range(0, len(lines), 10)]
    out = {}
    for name, rules in cases.PRE.items():
        rule = p.Sequence([p.Split(Regex(r), "isolated") for r in rules])
        out[name] = []
        for text in texts:
            ends = [len(text[:end].encode()) for _, (_, end) in rule.pre_tokenize_str(text)]
            out[name].append([len(ends), sum((e + 1) ** 2 * (e + 7) for e in ends) % 65521])
    return out


def newer():
    """Characters of the texts that the Unicode of `tokenizers` does not know, or knows otherwise than that of Python."""
    from tokenizers import normalizers as n, pre_tokenizers as p
    out = set("\u0589")  # its script has changed since
    clean, words = n.BertNormalizer(handle_chinese_chars=False, strip_accents=True, lowercase=True), p.Punctuation()
    for c in set(cases.MIXED.read_bytes().decode()):
        if c in " \n\r\t" or ord(c) < 0x80:
            continue
        kind = unicodedata.category(c)
        same = all(form(c) == unicodedata.normalize(name, c) for name, form in [("NFKC", n.NFKC().normalize_str), ("NFKD", n.NFKD().normalize_str)])
        bare = "".join(x for x in unicodedata.normalize("NFD", c) if unicodedata.category(x) != "Mn").lower()
        if kind[0] != "C" and not c.isspace():
            same = same and clean.normalize_str(c) == bare
        same = same and (len(p.Punctuation("removed").pre_tokenize_str("a" + c + "a")) == 2) == (kind[0] == "P")
        same = same and (len(p.Whitespace().pre_tokenize_str("a" + c)) == 1) == (kind[0] in "LM" or kind in ("Nd", "Nl", "Pc") or c in "\u200c\u200d")
        if not same or kind == "Cn":
            out.add(c)
    return "".join(sorted(out))


def results(encode, decode, dropped):
    texts = cases.EXTRA
    ids = [encode(t) for t in texts]
    back = [decode(i) for i in ids]
    kept = [b.translate({ord(c): None for c in dropped}) for b in blocks()]
    return {"ids": ids, "blocks": [id_hash(encode(b)) % 2**32 for b in kept],
            # What is no UTF-8 shows as other numbers of U+FFFD elsewhere.
            "decoded": [None if "\ufffd" in t else t for t in back]}


def main():
    from tokenizers import Tokenizer
    import sentencepiece as sp
    models = cases.base_models()
    dropped = newer()
    out = {"dropped": dropped, "texts": cases.EXTRA, "models": models, "json": {}, "files": {}}
    for name, variant in cases.variants().items():
        document = cases.whole_json(models, variant)
        tok = Tokenizer.from_str(json.dumps(document))
        out["json"][name] = {"model": variant[0], "rest": dict(variant[1], added_tokens=document["added_tokens"]), **results(lambda t: tok.encode(t).ids, lambda i: tok.decode(i), dropped)}
        if name == "split-scripts":  # of which script a rare character is differs from one Unicode to the next
            out["json"][name]["blocks"] = []
        if name in ("llama2-old", "added-normalized"):  # there a normalized token shows what became of its spelling
            out["json"][name]["decoded"] = [None] * len(cases.EXTRA)
    for kind in ("unigram", "bpe"):
        for name, options in cases.sentencepiece_options().items():
            model = cases.trained_sentencepiece(kind, **options)
            tok = sp.SentencePieceProcessor(model_proto=model.SerializeToString())
            out["files"][f"{kind}-{name}"] = {"model": base64.b64encode(model.SerializeToString()).decode(), **results(tok.encode, lambda ids: tok.decode([i for i in ids if not tok.is_unknown(i)]), dropped)}
            # A mark of a space in a text counts as a space there.
            out["files"][f"{kind}-{name}"]["ids"] = [None if "▁" in t else ids for t, ids in zip(cases.EXTRA, out["files"][f"{kind}-{name}"]["ids"])]
    OUT.write_text(json.dumps(out, ensure_ascii=False, separators=(",", ":")).replace('},"', '},\n"') + "\n")
    rows = ",\n".join(f" {json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in splits().items())
    (OUT.parent / "tokens/splits.json").write_text("{\n" + rows + "\n}\n")
    print(f"{OUT}: {OUT.stat().st_size} bytes, {len(out['json'])} + {len(out['files'])} tokenizers")


if __name__ == "__main__":
    main()
