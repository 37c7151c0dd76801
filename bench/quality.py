#!/usr/bin/env python3
"""How far fast arithmetic is from exact arithmetic on the same quantised file: mean KL divergence per token.

  python3 bench/quality.py -m MODEL.gguf -f TEXT --fovea build/fovea --llama LLAMA_PERPLEXITY --ik IK_PERPLEXITY

Exact means float32 arithmetic on the dequantised weights, so the loss of quantising the file itself is left out.
Fovea measures itself (`fovea bench --quality`, fast against exact). For the llama.cpp family the file is rewritten
with float32 weights (needs gguf and numpy; 4 bytes a parameter of disk), whose logits with float32 keys and values
and no flash attention are the base; then the original file runs with the settings that are fastest. Windows of -c
tokens that do not overlap; the second half of each is scored. Their base file keeps 16 bits per logit: the row
`float32 file` is that file against its own base, and no divergence below it means anything.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path


def write_float32(source, target):
    """A copy of a GGUF file with every tensor dequantised."""
    import gguf
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), kind, sub_type=inner)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, gguf.dequantize(tensor.data, tensor.tensor_type))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def run(command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, errors="replace")
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout + done.stderr


def statistics_of(output):
    def number(pattern):
        found = re.search(pattern + r"\s*:\s*([-+0-9.eE]+)", output)
        return float(found.group(1)) if found else None
    return {"mean_kl": number(r"Mean\s+KLD"), "max_kl": number(r"Maximum KLD"), "p99_kl": number(r"99\.0%\s+KLD"),
            "top1_agreement": (number(r"Same top p") or 0) / 100}


def peer(name, program, args, float32, base):
    """Rows for one llama-perplexity against the base; the first program to come here writes the base."""
    common = [program, "-f", args.file, "-c", args.ctx_size, "--chunks", args.chunks, "-t", args.threads,
              "--kl-divergence-base", base]
    exact = ["-m", float32, "-fa", "off", "-ctk", "f32"]
    if name != "ik_llama.cpp":  # which has no float32 values
        exact += ["-ctv", "f32"]
    if not base.exists():
        run(common + exact)
    settings = [("float32 file", exact), ("-fa on", ["-m", args.model, "-fa", "on"]),
                ("-fa off", ["-m", args.model, "-fa", "off"])]
    if name == "ik_llama.cpp":
        settings.append(("-fa on -rtr", ["-m", args.model, "-fa", "on", "-rtr"]))
    rows = []
    for label, flags in settings:
        rows.append({"engine": name, "settings": label, **statistics_of(run(common + flags + ["--kl-divergence"]))})
        print(json.dumps(rows[-1]), file=sys.stderr)
    return rows


def fovea(args):
    out = run([args.fovea, "bench", "-m", args.model, "--quality", "-f", args.file, "-c", args.ctx_size,
               "--chunks", args.chunks, "-t", args.threads, "-q", "--json"])
    answer = json.loads(out[out.index("{"):out.rindex("}") + 1])
    return [{"engine": "fovea", "settings": "fast || exact", **answer}]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-f", "--file", default="/usr/share/common-licenses/GPL-3")
    parser.add_argument("-c", "--ctx-size", type=int, default=512)
    parser.add_argument("--chunks", type=int, default=12)
    parser.add_argument("-t", "--threads", type=int, default=os.cpu_count())
    parser.add_argument("--fovea", help="the fovea program")
    parser.add_argument("--llama", default=os.environ.get("LLAMA_PERPLEXITY"), help="llama.cpp's llama-perplexity")
    parser.add_argument("--ik", default=os.environ.get("IK_LLAMA_PERPLEXITY"), help="ik_llama.cpp's llama-perplexity")
    parser.add_argument("--json", help="where to keep everything measured")
    args = parser.parse_args()
    if not (args.fovea or args.llama or args.ik):
        parser.error("nothing to run: give --fovea, --llama or --ik")

    rows = fovea(args) if args.fovea else []
    with tempfile.TemporaryDirectory() as scratch:
        float32 = Path(scratch) / "float32.gguf"
        if args.llama or args.ik:
            write_float32(args.model, float32)
        for name, program in (("llama.cpp", args.llama), ("ik_llama.cpp", args.ik)):
            if not program:
                continue
            try:
                rows += peer(name, program, args, float32, Path(scratch) / "base")
            except RuntimeError as problem:  # the others' numbers still count
                print(f"{name} failed: {problem}", file=sys.stderr)

    print(f"{Path(args.model).name}, {Path(args.file).name}, {args.chunks} windows of {args.ctx_size} tokens")
    print(f"{'engine':14}{'settings':16}{'mean KL':>12}{'99 % KL':>12}{'largest KL':>12}{'same top 1':>12}")
    for r in rows:
        cells = [r.get("mean_kl"), r.get("p99_kl"), r.get("max_kl"), r.get("top1_agreement")]
        print(f"{r['engine']:14}{r['settings']:16}" + "".join(f"{c:12.6f}" if c is not None else f"{'':12}" for c in cells))
    if args.json:
        report = {"model": Path(args.model).name, "text": Path(args.file).name, "ctx": args.ctx_size,
                  "chunks": args.chunks, "threads": args.threads, "rows": rows}
        Path(args.json).write_text(json.dumps(report, indent=1) + "\n")
    peers = [r["mean_kl"] for r in rows if r["engine"] == "llama.cpp" and r["settings"] != "float32 file"]
    if args.fovea and peers:
        no_larger = rows[0]["mean_kl"] <= min(peers)
        print(f"Fovea's divergence is {'no larger' if no_larger else 'LARGER'} than llama.cpp's best")
        return 0 if no_larger else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
