#!/usr/bin/env python3
"""Writes tests/golden/dequantize/TYPE.bin with the `gguf` package: blocks of random bytes, some with extreme scales,
and the float32 values that the package makes of them.

    python3 tools/make_dequantize_goldens.py tests/golden/dequantize
"""
import pathlib
import sys

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as Type, dequantize

# Where the half floats of a block lie; IQ1_M's is in the top bits of four words, MXFP4 and NVFP4 have exponents.
HALVES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ2_XXS": [0], "IQ2_XS": [0], "IQ2_S": [0], "IQ3_XXS": [0],
    "IQ3_S": [0], "IQ1_S": [0], "IQ1_M": [], "IQ4_NL": [0], "IQ4_XS": [0], "TQ1_0": [52], "TQ2_0": [64], "MXFP4": [],
    "NVFP4": [],
}
# Zero, the smallest and the largest subnormal, the smallest and the largest normal, some of either sign.
EXTREME = [0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x7BFF, 0xFBFF, 0x3C00, 0xA000]


def blocks_of(name, rng):
    elements, size = GGML_QUANT_SIZES[Type[name]]
    n = max(len(EXTREME) + 1, 512 // elements)
    blocks = rng.integers(0, 256, (n, size), dtype=np.uint8)
    for at in HALVES[name]:
        for i in range(n):
            half = EXTREME[(i + at) % len(EXTREME)] if i < len(EXTREME) else 0x2000 + int(rng.integers(0, 1024))
            blocks[i, at:at + 2] = np.frombuffer(np.uint16(half).tobytes(), np.uint8)
    if name == "MXFP4":
        blocks[:6, 0] = [0, 1, 2, 127, 253, 254]
    if name == "NVFP4":
        blocks[:2, :4] = [[0, 1, 7, 8], [0x77, 0x7E, 0x7F, 0x38]]
    if name == "IQ1_M":  # no Inf or NaN: the exponent's top bit is 0
        blocks[:, 55] &= 0xBF
    return blocks


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name in HALVES:
        blocks = blocks_of(name, np.random.default_rng(7))
        values = np.concatenate([dequantize(block[None, :], Type[name]).ravel() for block in blocks])
        (folder / f"{name}.bin").write_bytes(blocks.tobytes() + values.astype("<f4").tobytes())


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
