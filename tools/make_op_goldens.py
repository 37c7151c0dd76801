#!/usr/bin/env python3
"""Writes tests/golden/ops.bin: what PyTorch gives for ops of images and recurrent nets, with all gradients.

    tools/make_op_goldens.py [OUTPUT]        needs torch

Layout (little endian): uint32 bytes of the header; the header, JSON: {"tensors": [{"name", "shape", "at"}]}; then
float32 values; `at` counts floats from the first. Names are CASE/NAME: the inputs in the order that the op takes them,
"y", "dy" (the seed), and "NAME.grad" for each input with a gradient. Computed in double from float32 inputs.
"""
import json
import pathlib
import struct
import sys

import torch
import torch.nn.functional as F


def lstm_of_torch(x, h, c, w_ih, w_hh, b):
    cell = torch.nn.LSTMCell(x.shape[1], h.shape[1]).double()
    out = torch.func.functional_call(cell, {"weight_ih": w_ih, "weight_hh": w_hh, "bias_ih": b,
                                            "bias_hh": torch.zeros_like(b)}, (x, (h, c)))
    return torch.cat(out, 1)


def gru_of_torch(x, h, w_ih, w_hh, b_ih, b_hh):
    cell = torch.nn.GRUCell(x.shape[1], h.shape[1]).double()
    return torch.func.functional_call(cell, {"weight_ih": w_ih, "weight_hh": w_hh, "bias_ih": b_ih, "bias_hh": b_hh},
                                      (x, h))


def scan(x, decay, first):
    h, out = first, []
    for t in range(x.shape[1]):
        h = decay[:, t] * h + x[:, t]
        out.append(h)
    return torch.stack(out, 1)


def linear(q, k, v, decay):
    b, n, heads = q.shape[0], q.shape[1], 2
    q, k, v, a = (t.view(b, n, heads, -1) for t in (q, k, v, decay))
    s, out = torch.zeros(b, heads, q.shape[3], v.shape[3], dtype=torch.double), []
    for t in range(n):
        s = a[:, t, :, :, None] * s + k[:, t, :, :, None] * v[:, t, :, None, :]
        out.append((s * q[:, t, :, :, None]).sum(2))
    return torch.stack(out, 1).view(b, n, -1)


def clip(a, b, scale):
    logits = scale * F.normalize(a) @ F.normalize(b).T
    own = torch.arange(len(a))
    return ((F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2).view(1)


def dice(p, t):
    return (1 - (2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)).sum().view(1)


X = {"x": (2, 6, 9, 7)}
CASES = {
    "conv2d": ({**X, "w": (8, 6, 3, 3), "bias": (8,)}, lambda x, w, b: F.conv2d(x, w, b, stride=2, padding=1)),
    "conv2d_groups": ({**X, "w": (4, 3, 2, 3)}, lambda x, w: F.conv2d(x, w, None, (1, 2), (1, 0), (2, 1), groups=2)),
    "conv2d_depthwise": ({**X, "w": (6, 1, 3, 3), "bias": (6,)}, lambda x, w, b: F.conv2d(x, w, b, padding=1, groups=6)),
    "conv2d_1x1": ({**X, "w": (5, 6, 1, 1), "bias": (5,)}, F.conv2d),
    "conv1d": ({"x": (2, 11, 5), "w": (5, 4), "bias": (5,)},
               lambda x, w, b: F.conv1d(F.pad(x.transpose(1, 2), (3, 0)), w[:, None], b, groups=5).transpose(1, 2)),
    "unfold": (X, lambda x: F.unfold(x, (3, 2), padding=1, stride=2)),
    "fold": ({"x": (2, 12, 20)}, lambda x: F.fold(x, (9, 7), (3, 2), padding=1, stride=2)),
    "max_pool": (X, lambda x: F.max_pool2d(x, 3, 2, 1)),
    "mean_pool": (X, lambda x: F.avg_pool2d(x, 3, 2, 1)),
    "mean_pool_inside": (X, lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)),
    "nearest": (X, lambda x: F.interpolate(x, (13, 5), mode="nearest")),
    "linear": (X, lambda x: F.interpolate(x, (13, 5), mode="bilinear")),
    "linear_aligned": (X, lambda x: F.interpolate(x, (13, 5), mode="bilinear", align_corners=True)),
    "cubic": (X, lambda x: F.interpolate(x, (13, 5), mode="bicubic")),
    "linear_antialias": (X, lambda x: F.interpolate(x, (4, 3), mode="bilinear", antialias=True)),
    "cubic_antialias": (X, lambda x: F.interpolate(x, (4, 3), mode="bicubic", antialias=True)),
    "grid_sample": ({**X, "grid": (2, 4, 5, 2)}, lambda x, g: F.grid_sample(x, g, align_corners=False)),
    "grid_sample_aligned": ({**X, "grid": (2, 4, 5, 2)}, lambda x, g: F.grid_sample(x, g, align_corners=True)),
    "group_norm": ({**X, "w": (6,), "bias": (6,)}, lambda x, w, b: F.group_norm(x, 3, w, b, 1e-5)),
    "batch_norm": ({**X, "w": (6,), "bias": (6,)}, lambda x, w, b: F.batch_norm(x, None, None, w, b, True, 0.1, 1e-5)),
    "lstm": ({"x": (3, 4), "h": (3, 5), "c": (3, 5), "w_ih": (20, 4), "w_hh": (20, 5), "b": (20,)}, lstm_of_torch),
    "gru": ({"x": (3, 4), "h": (3, 5), "w_ih": (15, 4), "w_hh": (15, 5), "b_ih": (15,), "b_hh": (15,)}, gru_of_torch),
    "decay_scan": ({"x": (2, 9, 5), "decay": (2, 9, 5), "first": (2, 5)}, scan),
    "linear_attention": ({"q": (2, 70, 6), "k": (2, 70, 6), "v": (2, 70, 8), "decay": (2, 70, 6)}, linear),
    "contrastive": ({"a": (5, 7), "b": (5, 7), "scale": (1,)}, clip),
    "dice": ({"p": (3, 10), "t": (3, 10)}, dice),
}
BELOW_ONE = {"decay", "p", "t"}  # drawn from [0, 1]
CONSTANT = {"dice/t"}


def main():
    default = pathlib.Path(__file__).resolve().parent.parent / "tests/golden/ops.bin"
    output = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default
    torch.manual_seed(30)
    torch.set_num_threads(1)
    entries, values, at = [], [], 0

    def put(name, tensor):
        nonlocal at
        entries.append({"name": name, "shape": list(tensor.shape), "at": at})
        values.append(tensor.detach().float().contiguous().numpy().astype("<f4").tobytes())
        at += tensor.numel()

    for case, (shapes, function) in CASES.items():
        inputs = {}
        for name, shape in shapes.items():
            drawn = torch.rand(shape) if name in BELOW_ONE else torch.randn(shape)
            inputs[name] = drawn.float().double().requires_grad_(f"{case}/{name}" not in CONSTANT)
            put(f"{case}/{name}", inputs[name])
        y = function(*inputs.values())
        dy = torch.randn(y.shape).float().double()
        y.backward(dy)
        put(f"{case}/y", y)
        put(f"{case}/dy", dy)
        for name, tensor in inputs.items():
            if tensor.grad is not None:
                put(f"{case}/{name}.grad", tensor.grad)
    header = json.dumps({"tensors": entries}).encode()
    output.write_bytes(struct.pack("<I", len(header)) + header + b"".join(values))
    print(f"{output}: {len(CASES)} cases, {at} floats, {output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
