#!/usr/bin/env python3
"""Vectors of 1,000 sentences: `fovea embed` in turn with sentence-transformers, and how far the vectors are apart.

  python3 bench/embed.py --fovea build/fovea --model FOLDER [--texts FILE] [--threads 2] [--rounds 3]

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
import tempfile
import time
from pathlib import Path

import numpy as np


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
    args = p.parse_args()
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

    def theirs():
        begin = time.perf_counter()
        vectors = model.encode(texts, batch_size=32, normalize_embeddings=True, show_progress_bar=False)
        return time.perf_counter() - begin, vectors

    want = theirs()[1]
    ours("all", "exact")
    exact = np.load(work / "out.npy")
    ours("all")
    fast = np.load(work / "out.npy")
    apart, cosine = float(np.abs(exact - want).max()), float((fast * exact).sum(1).min())
    print(f"exact against sentence-transformers: {apart:.1e} at most; cosine of fast to exact: {cosine:.6f} at least")
    assert apart < 1e-5 and cosine > 0.999
    rows = []
    for _ in range(args.rounds):
        rows.append((ours("all") - ours("one"), theirs()[0]))
    a, b = (statistics.median(r[i] for r in rows) for i in (0, 1))
    print(f"{args.n} sentences, {args.threads} threads: fovea {args.n / a:.0f}/s, sentence-transformers {args.n / b:.0f}/s, "
          f"{b / a:.2f} times as fast")


if __name__ == "__main__":
    main()
