#!/usr/bin/env python3
"""Teaches a model the invented facts of examples/facts.jsonl by a LoRA and says what it knows before and after.

  python3 tools/check_facts.py [build/fovea] [--config examples/lora.json] [-f TEXT ...]

Prints how many answers begin with the fact, greedily and without the examples in the prompt, and the perplexity of texts
that have nothing to do with them. Exits 1 unless the base knows none, the adapter all, and perplexity rises by less
than 2 %.
"""
import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

TEXTS = ("/usr/share/common-licenses/GPL-3", "docs/evidence.md")  # one like those beside the facts, one unlike them


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: {done.stderr}")
    return json.loads(done.stdout)


def known(fovea, model, facts, lora):
    n = 0
    for fact in facts:
        answer = run(fovea, "run", "-m", model, "--raw", fact["prompt"], "-n", 12, "--temp", 0, "--json", "-q", *lora)
        n += answer["text"].strip().startswith(fact["answer"].strip())
    return n


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fovea", nargs="?", default="build/fovea")
    parser.add_argument("--config", default="examples/lora.json")
    parser.add_argument("--facts", default="examples/facts.jsonl")
    parser.add_argument("-f", "--file", action="append")
    args = parser.parse_args()
    config = json.loads(Path(args.config).read_text())
    facts = [json.loads(line) for line in Path(args.facts).read_text().splitlines()]
    with tempfile.TemporaryDirectory() as folder:
        config["out"] = folder + "/run"
        own = Path(folder, "config.json")
        own.write_text(json.dumps(config))
        trained = run(args.fovea, "train", own, "--json", "-q")
        lora = ["--lora", folder + "/run/model"]
        perplexity = [[run(args.fovea, "perplexity", "-m", config["model"], "-f", text, "-c", 512, "--json", "-q", *more)
                       ["perplexity"] for more in ([], lora)] for text in args.file or TEXTS]
        before, after = (known(args.fovea, config["model"], facts, more) for more in ([], lora))
    print(f"{trained['step']} steps, loss {trained['loss']:.4f}; {len(facts)} facts: {before} known before, {after} after")
    for text, (base, adapted) in zip(args.file or TEXTS, perplexity):
        print(f"perplexity of {text}: {base:.3f} to {adapted:.3f} ({adapted / base - 1:+.2%})")
    sys.exit(before != 0 or after != len(facts) or any(adapted / base >= 1.02 for base, adapted in perplexity))


if __name__ == "__main__":
    main()
