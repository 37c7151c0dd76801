#!/usr/bin/env python3
"""Tokenizers of every kind on real text: build/bench_tokenizer in turn with `tokenizers` and tiktoken, one thread.

  python3 bench/tokenizer.py --prepare WORK                 texts and vocabularies, once (minutes)
  python3 bench/tokenizer.py [-o OUT.json] WORK [NAME...]

Texts, some megabytes each: `english` is documentation under /usr/share, `scripts` the translations of its programs into
12 languages with scripts of their own, a few lines of each in turn. Vocabularies of 32,000 tokens are trained on both
by `tokenizers`: a byte-level one, cut as each pre-tokeniser of tools/tokenizer_cases.py says, pairs as SentencePiece
makes them, unigram, WordPiece, and a list of words. The ids of all must be equal before anything is timed. A library
reads a text whole and line by line, and the faster counts; tiktoken where it can have the vocabulary (one expression). With names, the rows of others stay in OUT.json.
"""
import argparse
import gettext
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

os.environ.update(RAYON_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "bench")]
import result  # noqa: E402
import tokenizer_cases as cases  # noqa: E402

ENGLISH = ("common-licenses/*", "perl/*/pod/*.pod", "perl/*/**/*.pod", "vim/*/doc/*.txt", "doc/*/README*", "doc/**/*.txt")
LANGUAGES = ("ru", "el", "ar", "he", "hi", "th", "ja", "ko", "zh_CN", "ka", "ta", "bn")
MOST = 2_000_000
VOCABULARY = 32_000


def english():
    out, size = [], 0
    for pattern in ENGLISH:
        for path in sorted(Path("/usr/share").glob(pattern)):
            if size < MOST and path.is_file():
                text = path.read_bytes()[:MOST // 8].decode(errors="ignore").replace("\0", "")
                out.append(text)
                size += len(text)
    return "\n".join(out)


def translations(language):
    lines = []
    for path in sorted(Path("/usr/share/locale", language, "LC_MESSAGES").glob("*.mo")):
        try:
            with path.open("rb") as file:
                found = gettext.GNUTranslations(file)._catalog
        except (OSError, UnicodeError):
            continue
        for key, text in found.items():
            if key and isinstance(text, str):
                lines += [line for line in text.split("\n") if line.strip()]
    return list(dict.fromkeys(lines))


def scripts():
    """A few lines of each language in turn, as much of each as there is of the smallest share."""
    share, parts = MOST // len(LANGUAGES), []
    for language in LANGUAGES:
        lines, size = [], 0
        for line in translations(language):
            size += len(line.encode()) + 1
            if size > share:
                break
            lines.append(line)
        if not lines:
            sys.exit(f"bench/tokenizer.py: /usr/share/locale/{language} has no translations")
        parts.append([lines[i:i + 5] for i in range(0, len(lines), 5)])
    return "\n".join("\n".join(p[i]) for i in range(max(map(len, parts))) for p in parts if i < len(p))


def documents(texts):
    """NAME -> a tokenizer.json."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    lines = [line + "\n" for text in texts for line in text.split("\n")]
    plain = [line[:-1] for line in lines]

    def train(model, trainer, cut, normalizer=None, what=plain):
        tok = Tokenizer(model)
        tok.pre_tokenizer = cut
        if normalizer:
            tok.normalizer = normalizer
        tok.train_from_iterator(what, trainer)
        return json.loads(tok.to_str())["model"]

    options = dict(vocab_size=VOCABULARY, show_progress=False)
    models_of = {
        "bytes": train(models.BPE(), trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **options),
                       pre_tokenizers.ByteLevel(add_prefix_space=False), what=lines),
        "fallback": train(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True),
                          trainers.BpeTrainer(special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)],
                                              limit_alphabet=4000, **options), pre_tokenizers.Metaspace(prepend_scheme="always")),
        "unigram": train(models.Unigram(), trainers.UnigramTrainer(unk_token="<unk>", special_tokens=["<unk>", "</s>"],
                                                                   **options), pre_tokenizers.Metaspace()),
        "pieces": train(models.WordPiece(unk_token="[UNK]"),
                        trainers.WordPieceTrainer(special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
                                                  limit_alphabet=4000, **options),
                        pre_tokenizers.BertPreTokenizer(), normalizers.BertNormalizer()),
        "list": train(models.WordLevel(unk_token="<unk>"), trainers.WordLevelTrainer(special_tokens=["<unk>"], **options),
                      pre_tokenizers.Whitespace())}
    models_of["unigram"]["vocab"] = [[t, round(s, 4)] for t, s in models_of["unigram"]["vocab"]]
    out = {}

    def add(name, model, **parts):
        out[name] = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
                     "pre_tokenizer": None, "post_processor": None, "decoder": None, **parts, "model": models_of[model]}

    letters = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    nfc = {"olmo", "qwen2", "qwen35"}
    for name, rules in cases.PRE.items():
        steps = [cases.split({"Regex": rule}) for rule in rules]
        add(f"bytes {name}", "bytes", pre_tokenizer=cases.seq("pretokenizers", *steps, letters), decoder=letters,
            normalizer={"type": "NFC"} if name in nfc else None)
    known = cases.variants()
    for name, model, like in (("pairs of characters", "fallback", "llama2"), ("unigram, words", "unigram", "metaspace-always"),
                              ("unigram, whole", "unigram", "metaspace-always-whole"), ("WordPiece", "pieces", "bert"),
                              ("WordPiece, cased", "pieces", "bert-cased"), ("WordLevel", "list", "list")):
        parts = {k: v for k, v in known[like][1].items() if k in ("normalizer", "pre_tokenizer", "decoder")}
        add(name, model, **parts)
    return out


def prepare(work):
    work.mkdir(parents=True, exist_ok=True)
    texts = {"english": english(), "scripts": scripts()}
    for name, text in texts.items():
        (work / f"{name}.txt").write_bytes(text.encode())
    # A third is enough to train on, and the rest has words that are new.
    half = ["\n".join(text.split("\n")[::3]) for text in texts.values()]
    for name, document in documents(half).items():
        folder = work / name.replace(" ", "_").replace(",", "")
        folder.mkdir(exist_ok=True)
        (folder / "tokenizer.json").write_text(json.dumps(document, ensure_ascii=False))
        (folder / "name").write_text(name)


def rate(text, run, repeats=2):
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        run()
        times.append(time.process_time() - begin)
    return len(text.encode()) / 1e6 / min(times)


def tiktoken_of(document):
    """None where it cannot have the vocabulary: it knows bytes, and one expression."""
    import tiktoken
    steps = [s for s in (document["pre_tokenizer"] or {}).get("pretokenizers", []) if s["type"] == "Split"]
    if document["normalizer"] or len(steps) != 1 or (document["decoder"] or {}).get("type") != "ByteLevel":
        return None
    spelt = {chr(b) if 33 <= b < 127 or 161 <= b < 173 or b >= 174 else None: b for b in range(256)}
    others = [b for b in range(256) if chr(b) not in spelt]
    spelt.update({chr(256 + i): b for i, b in enumerate(others)})
    ranks = {bytes(spelt[c] for c in token): i for token, i in document["model"]["vocab"].items()}
    return tiktoken.Encoding("bench", pat_str=steps[0]["pattern"]["Regex"], mergeable_ranks=ranks, special_tokens={})


def measure(args, folder, texts):
    from tokenizers import Tokenizer
    document = json.loads((folder / "tokenizer.json").read_text())
    name = (folder / "name").read_text()
    files = [str(args.work / f"{t}.txt") for t in texts]
    done = subprocess.run([args.encode, str(folder)], input=json.dumps(list(texts.values())), capture_output=True, text=True)
    ids = [json.loads(line)["ids"] for line in done.stdout.split("\n") if line]
    tok = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ours = json.loads(subprocess.run([args.bench, "--json", str(folder), *files], check=True, capture_output=True, text=True).stdout)
    rows = []
    for i, (label, text) in enumerate(texts.items()):
        # Line by line first: a text as a whole takes some of the libraries far more than in proportion.
        lines = text.split("\n")
        whole = tok.encode(text).ids
        row = {"kind": name, "text": label, "bytes": ours[i]["bytes"], "tokens": ours[i]["tokens"],
               "equal_ids": ids[i] == whole, "fovea": ours[i]["encode_mb_per_second"], "fovea_decode": ours[i]["decode_mb_per_second"],
               "tokenizers": max(rate(text, lambda: tok.encode_batch_fast([text], add_special_tokens=False), 1),
                                 rate(text, lambda: tok.encode_batch_fast(lines, add_special_tokens=False)))}
        tik = tiktoken_of(document)
        if tik and tik.encode_ordinary(text) == whole:
            row["tiktoken"] = max(rate(text, lambda: tik.encode_ordinary(text), 1),
                                  rate(text, lambda: [tik.encode_ordinary(line) for line in lines]))
        row["times_the_faster"] = row["fovea"] / max(row["tokenizers"], row.get("tiktoken", 0))
        rows.append(row)
        print(f"{name:28} {label:8} fovea {row['fovea']:7.1f} MB/s, decode {row['fovea_decode']:7.1f}; tokenizers {row['tokenizers']:6.1f}"
              + (f"; tiktoken {row['tiktoken']:6.1f}" if "tiktoken" in row else "")
              + ("" if row["equal_ids"] else "; THE IDS DIFFER"), flush=True)
    return rows


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("work", type=Path)
    p.add_argument("names", nargs="*", help="of folders in WORK; all without them")
    p.add_argument("--prepare", action="store_true")
    p.add_argument("--bench", default=str(ROOT / "build/bench_tokenizer"))
    p.add_argument("--encode", default=str(ROOT / "build/encode_texts"))
    p.add_argument("-o", "--output")
    args = p.parse_args()
    if args.prepare:
        return prepare(args.work)
    texts = {name: (args.work / f"{name}.txt").read_bytes().decode() for name in ("english", "scripts")}
    rows = []
    for folder in sorted(args.work.iterdir()):
        if (folder / "tokenizer.json").is_file() and (not args.names or folder.name in args.names):
            rows += measure(args, folder, texts)
    low = min(row["fovea"] for row in rows)
    print(f"slowest {low:.1f} MB/s; {statistics.median(r['times_the_faster'] for r in rows):.1f} times the faster library, median")
    if args.output:
        head = result.head("tokenizer", [str(a) for a in ["bench/tokenizer.py", *sys.argv[1:]]])
        head["models"] = {f.name: hashlib.sha256((f / "tokenizer.json").read_bytes()).hexdigest()
                          for f in sorted(args.work.iterdir()) if (f / "tokenizer.json").is_file()}
        others = json.loads(Path(args.output).read_text())["rows"] if Path(args.output).exists() and args.names else []
        fresh = {row["kind"] for row in rows}
        result.keep(args.output, {**head, "rows": [r for r in others if r["kind"] not in fresh] + rows})


if __name__ == "__main__":
    sys.exit(main())
