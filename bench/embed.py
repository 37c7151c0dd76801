#!/usr/bin/env python3
"""Vectors of 1,000 sentences: `fovea embed` in turn with sentence-transformers, and how far the vectors are apart.

  python3 bench/embed.py --fovea build/fovea --model FOLDER [--texts FILE] [--threads 2] [--rounds 3] [-o OUT.json]

The sentences are those of --texts, by default of the GPL's text. Each program loads its model once; a round is all
sentences by both, the medians are compared. sentence-transformers runs with batches of 32, in float32. The time of
fovea is that of the whole program less that of one sentence: loading counts for neither. Before anything is timed the
vectors of `--numerics exact` must be those of sentence-transformers within 1e-5, and those of `fast` within a cosine of
0.999. With --ids the tokenizer of sentence-transformers makes the ids, and neither side's tokenizer is timed.
"""
import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
import result  # noqa: E402

def sentences(path, n):
    text = re.sub(r"\s+", " ", Path(path).read_text())
    found = [s.strip() for s in re.split(r"(?<=[.;:]) ", text) if len(s.strip()) > 20]
    return [found[i % len(found)] if i < len(found) else f"{found[i % len(found)]} ({i})" for i in range(n)]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--fovea", default="build/fovea")
    p.add_argument("--model", required=True)
    p.add_argument("--texts", default="/usr/share/common-licenses/GPL-3")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--n", type=int, default=1000)
    p.add_argument("--ids", action="store_true")
    p.add_argument("--batches", type=int, nargs="+", default=[8, 16, 64, 128], help="of the other, besides 32")
    p.add_argument("-o", "--output")
    args = p.parse_args()
    import sentence_transformers
    import torch
    from sentence_transformers import SentenceTransformer
    torch.set_num_threads(args.threads)
    model = SentenceTransformer(args.model, device="cpu")
    texts = sentences(args.texts, args.n)
    work = Path(tempfile.mkdtemp())
    if args.ids:
        most = model.max_seq_length
        ids = [model.tokenizer(t, truncation=True, max_length=most)["input_ids"] for t in texts]
        (work / "all").write_text(json.dumps(ids))
        (work / "one").write_text(json.dumps(ids[:1]))
    else:
        (work / "all").write_text("\n".join(texts) + "\n")
        (work / "one").write_text(texts[0] + "\n")

    def ours(name, numerics="fast"):
        begin = time.perf_counter()
        subprocess.run([args.fovea, "embed", "-m", args.model, "--ids" if args.ids else "-f", str(work / name), "-o",
                        str(work / "out.npy"), "-t", str(args.threads), "--numerics", numerics, "-q"], check=True,
                       stdout=subprocess.DEVNULL)
        return time.perf_counter() - begin

    def theirs(batch=32):
        begin = time.perf_counter()
        vectors = model.encode(texts, batch_size=batch, normalize_embeddings=True, show_progress_bar=False)
        return time.perf_counter() - begin, vectors

    want = theirs()[1]
    apart = {}
    for numerics in ("exact", "fast"):
        ours("all", numerics)
        found = np.load(work / "out.npy")
        apart[numerics] = float(np.abs(found - want).max())
        cosine = float((found * want).sum(1).min())
        print(f"{numerics} against sentence-transformers: {apart[numerics]:.1e} at most; cosine {cosine:.7f} at least")
        assert cosine > 0.999
    assert apart["exact"] < 1e-5
    other = min(args.batches, key=lambda batch: theirs(batch)[0]) if len(args.batches) > 1 else args.batches[0]
    names = ("fovea fast", "fovea exact", "sentence-transformers, 32", f"sentence-transformers, {other}")
    rounds = [(ours("all") - ours("one"), ours("all", "exact") - ours("one", "exact"), theirs()[0], theirs(other)[0])
              for _ in range(args.rounds)]
    rows = []
    for name, seconds in zip(names, zip(*rounds)):
        rates = [args.n / s for s in seconds]
        rows.append({"engine": name, "texts": args.n, "texts_per_second": statistics.median(rates), "min": min(rates),
                     "max": max(rates)})
    best = max(row["texts_per_second"] for row in rows[2:])
    for row in rows:
        row["times_the_other"] = row["texts_per_second"] / best
        if "fovea" in row["engine"]:
            row["largest_difference"] = apart[row["engine"].split()[1]]
        print(f"{row['engine']:28} {row['texts_per_second']:7.0f} texts a second, {row['times_the_other']:.2f} of the best of the other")
    if args.output:
        head = result.head("embed", [str(a) for a in ["bench/embed.py", *sys.argv[1:]]])
        head["models"] = {Path(args.model).name: result.sha256(Path(args.model) / "model.safetensors")}
        head["peers"] = {"sentence-transformers": sentence_transformers.__version__, "torch": torch.__version__}
        result.keep(args.output, {**head, "threads": args.threads, "rows": rows})


if __name__ == "__main__":
    main()
