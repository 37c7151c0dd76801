#!/usr/bin/env python3
"""Checks that a folder whose weights are stored as F8 or F64, and a GGUF of MXFP4, answer as transformers.

  python3 tools/check_stored_types.py build/fovea [FAMILY ...]

Each tiny model of tests/data/families is written anew in each way; transformers runs the values that these bytes stand
for, worked out here, in float32. Logits must be within 1e-4. MXFP4 is a GGUF that Fovea wrote, read by the `gguf`
package, of models made as tools/make_family_goldens.py makes them, but with rows of whole blocks. Needs torch,
transformers, gguf; not for gpt-oss, whose experts are no matrices in a folder.
"""
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

import make_family_goldens as goldens

TYPES = {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2}
BLOCK = 16


def is_matrix(name, value):
    return value.dim() == 2 and name.endswith("weight")


def eight_bits(dtype, matrices_only):
    def store(name, value):
        if matrices_only and not is_matrix(name, value):
            return {name: value.half()}, value.half().float()
        low = value.to(dtype)
        return {name: low}, low.float()
    return store


def scaled(dtype, how, tail, power=False):
    """How: one scale, one a row (a column of scales, or a vector), one a block."""
    def store(name, value):
        if not is_matrix(name, value) or "embed" in name or "wte" in name or "wpe" in name:
            return {name: value.bfloat16()}, value.bfloat16().float()
        rows, cols = value.shape
        if how == "block":
            shape = (-(-rows // BLOCK), -(-cols // BLOCK))
            spread = lambda s: s.repeat_interleave(BLOCK, 0)[:rows].repeat_interleave(BLOCK, 1)[:, :cols]
            most = torch.zeros(shape)
            for i, j in np.ndindex(shape):
                most[i, j] = value[i * BLOCK:(i + 1) * BLOCK, j * BLOCK:(j + 1) * BLOCK].abs().max()
        elif how == "row":
            most, spread = value.abs().amax(1, keepdim=True), lambda s: s
        elif how == "vector":
            most, spread = value.abs().amax(1), lambda s: s[:, None]
        else:
            most, spread = value.abs().max()[None] if how == "one" else value.abs().max(), lambda s: s
        scale = most / torch.finfo(dtype).max
        if power:
            scale = 2.0 ** scale.log2().ceil()
        low = (value / spread(scale)).to(dtype)
        return {name: low, name + tail: scale}, low.float() * spread(scale)
    return store


def doubles(name, value):
    rng = torch.Generator().manual_seed(len(name))
    value = value.double() * (1 + 1e-3 * torch.randn(value.shape, generator=rng, dtype=torch.float64))
    return {name: value}, value.float()


FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": None}
WAYS = {
    "f64": (doubles, None),
    "e4m3": (eight_bits(TYPES["e4m3"], False), None),
    "e5m2": (eight_bits(TYPES["e5m2"], False), None),
    "e4m3 and f16": (eight_bits(TYPES["e4m3"], True), None),
    "e4m3, a scale": (scaled(TYPES["e4m3"], "one", "_scale"),
                      {"quant_method": "compressed-tensors", "format": "float-quantized"}),
    "e4m3, a scalar": (scaled(TYPES["e4m3"], "scalar", "_scale_inv"), FP8),
    "e4m3, of rows": (scaled(TYPES["e4m3"], "row", "_scale"), {"quant_method": "fbgemm_fp8"}),
    "e5m2, of rows": (scaled(TYPES["e5m2"], "vector", "_scale"), FP8),
    "e4m3, of blocks": (scaled(TYPES["e4m3"], "block", "_scale_inv"), FP8 | {"weight_block_size": [BLOCK, BLOCK]}),
    "e4m3, powers of two": (scaled(TYPES["e4m3"], "block", "_scale_inv", True),
                            FP8 | {"weight_block_size": [BLOCK, BLOCK]}),
}


@torch.inference_mode()
def of_transformers(folder, ids):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    return model(torch.tensor([ids]), use_cache=False).logits[0].numpy()


def of_fovea(program, model, ids, work):
    (work / "ids.json").write_text(json.dumps(ids))
    done = subprocess.run([program, "logits", "-m", model, "--ids", work / "ids.json", "-o", work / "out.npy", "--numerics",
                           "exact", "-q"], capture_output=True, text=True)
    return np.load(work / "out.npy") if done.returncode == 0 else done.stderr.strip()


def quietly(*command):
    subprocess.run(command, check=True, capture_output=True)


def folder_with(out, tensors, config):
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    (out / "config.json").write_text(json.dumps(config))
    save_file({k: v.contiguous() for k, v in tensors.items()}, out / "model.safetensors", {"format": "pt"})
    return out


def check(what, want, got):
    if isinstance(got, str):
        print(f"{what}: REFUSED: {got}")
        return False
    off = float(np.abs(want - got).max())
    good = off < 1e-4 and bool(np.isfinite(got).all())
    print(f"{what}: {off:.1e} of {float(np.abs(want).max()):.1f}" + ("" if good else ": WRONG"))
    return good


def check_family(program, name, work):
    base = goldens.OUT / name
    config = json.loads((base / "config.json").read_text())
    ids = json.loads((base / "golden.json").read_text())["ids"]
    tensors = {k: v.float() for k, v in load_file(base / "model.safetensors").items()}
    wrong = 0
    for way, (store, quantization) in WAYS.items():
        stored, meant = {}, {}
        for key, value in tensors.items():
            parts, meant[key] = store(key, value)
            stored.update(parts)
        plain = folder_with(work / "plain", meant, config)
        said = {"quantization_config": quantization} if quantization else {}
        ours = folder_with(work / "ours", stored, config | said)
        wrong += not check(f"{name}, {way}", of_transformers(plain, ids), of_fovea(program, ours, ids, work))
        if way == "e4m3":  # the same as a GGUF file
            quietly(program, "convert", ours, work / "f8.gguf", "-q")
            got = of_fovea(program, work / "f8.gguf", ids, work)
            wrong += not check(f"{name}, {way} converted", of_transformers(plain, ids), got)
            (work / "f8.gguf").unlink()
    return wrong


def wide(name):
    """The family's configuration with rows of whole blocks of 32."""
    cls, fields, _ = goldens.FAMILIES[name]
    sizes = {"hidden_size": 64, "intermediate_size": 96, "head_dim": 32, "moe_intermediate_size": 32,
             "shared_expert_intermediate_size": 32}
    if name == "gpt2":
        sizes = {"n_embd": 96}
    return goldens.config_of(cls, fields | {k: v for k, v in sizes.items() if k in fields or k in goldens.SIZES})


def check_mxfp4(program, name, work):
    config = wide(name)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").float()
    goldens.draw(model, seed=5)
    model.tie_weights()
    base = work / "base"
    shutil.rmtree(base, ignore_errors=True)
    model.save_pretrained(base)
    quietly(program, "convert", base, work / "f32.gguf", "-q")
    made = work / "mxfp4.gguf"
    quietly(program, "quantize", work / "f32.gguf", made, "--type", "mxfp4", "-q")
    # Every tensor of the blocks' type, worked out by gguf, in a copy of the float32 file; that goes back to a folder.
    read = {t.name: t for t in gguf.GGUFReader(made).tensors}
    kinds = {t.tensor_type.name for t in read.values()}
    copy = bytearray((work / "f32.gguf").read_bytes())
    for t in gguf.GGUFReader(work / "f32.gguf").tensors:
        other = read[t.name]
        values = np.ascontiguousarray(gguf.quants.dequantize(other.data, other.tensor_type), dtype=np.float32)
        assert t.tensor_type == gguf.GGMLQuantizationType.F32 and values.nbytes == t.n_bytes, t.name
        copy[t.data_offset:t.data_offset + t.n_bytes] = values.tobytes()
    (work / "plain.gguf").write_bytes(copy)
    shutil.rmtree(work / "plain", ignore_errors=True)
    quietly(program, "convert", work / "plain.gguf", work / "plain", "-q")
    ids = [int(i) for i in np.random.default_rng(7).integers(3, goldens.VOCAB, 150)]
    what = f"{name}, mxfp4 in a GGUF ({'/'.join(sorted(kinds))})"
    return not check(what, of_transformers(work / "plain", ids), of_fovea(program, made, ids, work))


def main():
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    program, names = sys.argv[1], sys.argv[2:] or [f for f in goldens.FAMILIES if f != "gpt-oss"]
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            wrong += check_family(program, name, Path(folder))
            wrong += check_mxfp4(program, name, Path(folder))
    print(f"{wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
