#!/usr/bin/env python3
"""Writes fovea/kernels/iq_grids.h from the `gguf` package: the lattice points of the IQ types of GGUF.

A point is a number with one digit a coordinate (0, 1, 2 or 0 to 7, the first coordinate the lowest digit), and the
points of a type stand in rising order. What is kept of a point is its distance from the one before it, a printable
character from '#' (0) to '}' (90); '~' adds 91 and goes on.

    python3 tools/make_iq_grids.py > fovea/kernels/iq_grids.h
"""
from gguf import quants

GRIDS = ("IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ1_S")
FIRST, MOST = ord("#"), 91


def distances(quant):
    quant.init_grid()
    digits = {value: i for i, value in enumerate(sorted(float(v) for v in quant.grid_map))}
    before, out = 0, ""
    for point in quant.grid.reshape(quant.grid_shape):
        number = sum(digits[float(value)] * len(digits) ** i for i, value in enumerate(point))
        step = number - before
        assert step >= 0
        out += "~" * (step // MOST) + chr(FIRST + step % MOST)
        before = number
    return out


def main():
    print("// The lattice points of GGUF's IQ types, facts of the format. Made by tools/make_iq_grids.py, which says how a")
    print("// character stands for a point.")
    print("#pragma once\n\nnamespace fovea::kernels {\n")
    for name in GRIDS:
        text = distances(getattr(quants, name))
        print(f"inline constexpr char k{name.replace('_', '')}Points[] =")
        lines = [text[i:i + 110] for i in range(0, len(text), 110)]
        for line in lines:
            print(f'    R"({line})"{";" if line is lines[-1] else ""}')
        print()
    print("}  // namespace fovea::kernels")


if __name__ == "__main__":
    main()
