#!/usr/bin/env python3
"""Compares the tokenizers here with `tokenizers`, `sentencepiece` and llama.cpp on the mixed text, line by line and whole.

    pip install tokenizers sentencepiece transformers gguf xllamacpp
    cmake --build --preset release --target encode_texts
    tools/compare_tokenizers.py build/encode_texts [NAME...]          # the small ones of tokenizer_cases.py
    tools/compare_tokenizers.py build/encode_texts --folder DIR       # a downloaded folder, against its tokenizer.json
    tools/compare_tokenizers.py build/encode_texts --sentencepiece    # trained models, as tokenizer.model
    tools/compare_tokenizers.py build/encode_texts --gguf FILE        # of kind llama or t5, rebuilt for sentencepiece
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import tokenizer_cases as cases


def texts():
    lines = cases.training_lines()
    return cases.EXTRA + lines + ["\n".join(lines[:400])]


def ours(program, folder, inputs, special=True):
    run = subprocess.run([program, str(folder)] + (["special"] if special else []), input=json.dumps(inputs), capture_output=True, text=True)
    return [json.loads(line) for line in run.stdout.split("\n") if line]


def report(name, inputs, got, wanted, pieces=None):
    """Number of differences; the first is shown."""
    if got and "error" in got[0]:
        print(f"{name}: {got[0]['error']}")
        return 1
    bad = 0
    for text, g, (ids, back) in zip(inputs, got, wanted):
        same_ids = g.get("ids") == ids
        same_text = back is None or "\ufffd" in back + g.get("text", "") or g.get("text") == back
        same_stream = g.get("stream") == g.get("text")
        if same_ids and same_text and same_stream:
            continue
        bad += 1
        if bad <= 2:
            what = "ids" if not same_ids else "text" if not same_text else "stream"
            print(f"{name}: {what} of {text[:150]!r}")
            if what == "ids":
                a, b = g.get("ids", [g]), ids
                i = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
                show = (lambda ids: [pieces(i) for i in ids]) if pieces else (lambda ids: ids)
                print("   here ", show(a[max(0, i - 2):i + 8]), "\n   there", show(b[max(0, i - 2):i + 8]))
            else:
                print("   here ", repr(g.get(what))[:300], "\n   there", repr(back)[:300])
    return bad


def compare_variants(program, names):
    from tokenizers import Tokenizer
    models, bad = cases.base_models(), 0
    inputs = texts()
    for name, variant in cases.variants(whole_charsmap=True).items():
        if names and name not in names:
            continue
        document = cases.whole_json(models, variant)
        try:
            tok = Tokenizer.from_str(json.dumps(document))
        except BaseException as e:
            print(f"{name}: the reference refuses it: {e}")
            bad += 1
            continue
        wanted = []
        for text in inputs:
            ids = tok.encode(text).ids
            wanted.append((ids, tok.decode(ids)))
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "tokenizer.json").write_text(json.dumps(document))
            n = report(name, inputs, ours(program, folder, inputs), wanted, tok.id_to_token)
        print(f"{name}: {n} of {len(inputs)} differ")
        bad += n
    return bad


def compare_folder(program, folder):
    from tokenizers import Tokenizer
    tok = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    tok.no_truncation()
    tok.no_padding()
    inputs = texts()
    wanted = [(e.ids, tok.decode(e.ids)) for e in tok.encode_batch(inputs)]
    n = report(str(folder), inputs, ours(program, folder, inputs), wanted, tok.id_to_token)
    print(f"{folder}: {n} of {len(inputs)} differ")
    return n


def compare_sentencepiece(program):
    import sentencepiece as sp
    bad = 0
    inputs = [t for t in texts() if "<s>" not in t and "\0" not in t]
    for kind in ("unigram", "bpe"):
        for name, options in cases.sentencepiece_options(whole_charsmap=True).items():
            model = cases.trained_sentencepiece(kind, **options)
            tok = sp.SentencePieceProcessor(model_proto=model.SerializeToString())
            wanted = [(tok.encode(t), tok.decode([i for i in tok.encode(t) if not tok.is_unknown(i)])) for t in inputs]
            with tempfile.TemporaryDirectory() as folder:
                (Path(folder) / "tokenizer.model").write_bytes(model.SerializeToString())
                (Path(folder) / "tokenizer_config.json").write_text('{"add_bos_token": false, "legacy": false}')
                n = report(f"{kind}-{name}", inputs, ours(program, folder, inputs), wanted, tok.id_to_piece)
            print(f"{kind}-{name}: {n} of {len(inputs)} differ")
            bad += n
    return bad


def rebuilt(path):
    """SentencePiece's model out of a GGUF file. Runs of spaces that are user-defined are stored with plain spaces."""
    import gguf
    from sentencepiece import sentencepiece_model_pb2 as pb
    reader = gguf.GGUFReader(path)
    get = lambda key, default=None: reader.fields["tokenizer.ggml." + key].contents() if "tokenizer.ggml." + key in reader.fields else default
    model = pb.ModelProto()
    for piece, score, kind in zip(get("tokens"), get("scores"), get("token_type")):
        model.pieces.add(piece=piece.replace(" ", "▁") if kind == 4 else piece, score=score, type=kind)
    t, n = model.trainer_spec, model.normalizer_spec
    t.model_type = 1 if get("model") == "t5" else 2
    t.byte_fallback = any(k == 6 for k in get("token_type"))
    t.unk_id, t.bos_id, t.eos_id, t.pad_id = get("unknown_token_id", 0), get("bos_token_id", -1), get("eos_token_id", -1), get("padding_token_id", -1)
    n.precompiled_charsmap = bytes(get("precompiled_charsmap", b""))
    n.add_dummy_prefix = get("add_space_prefix", True)
    n.remove_extra_whitespaces = get("remove_extra_whitespaces", False)
    n.escape_whitespaces = True
    return model, get("add_bos_token", get("model") == "llama")


def compare_gguf(program, path):
    import sentencepiece as sp
    model, bos = rebuilt(path)
    tok = sp.SentencePieceProcessor(model_proto=model.SerializeToString())
    inputs = [t for t in texts() if "\0" not in t]
    wanted = [([tok.bos_id()] * bool(bos) + tok.encode(t), tok.decode(tok.encode(t))) for t in inputs]
    n = report(path, inputs, ours(program, path, inputs, special=False), wanted, tok.id_to_piece)
    print(f"{path}: {n} of {len(inputs)} differ")
    return n


def main():
    program, rest = sys.argv[1], sys.argv[2:]
    if rest[:1] == ["--folder"]:
        bad = sum(compare_folder(program, folder) for folder in rest[1:])
    elif rest[:1] == ["--gguf"]:
        bad = sum(compare_gguf(program, path) for path in rest[1:])
    elif rest[:1] == ["--sentencepiece"]:
        bad = compare_sentencepiece(program)
    else:
        bad = compare_variants(program, rest)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
