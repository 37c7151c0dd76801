#!/usr/bin/env python3
"""Writes seeded mutations of a GGUF file into a folder.

    tools/mutate_gguf.py FILE.gguf FOLDER [COUNT [SEED]]

Most mutations hit the header, the metadata and the tensor table, where a reader decides how much
to allocate and where to look: flipped bits, extreme fields, swapped lengths, truncations, entries
that are repeated, removed or moved, hostile text. A few hit the weights.
"""
import pathlib
import random
import struct
import sys

SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
STRING, ARRAY = 8, 9
EXTREMES = [0, 1, 2, 3, 31, 32, 63, 64, 127, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63,
            2**64 - 64, 2**64 - 1]
HOSTILE = [b"\x1b[2J\x1b]0;x\x07", b"\n\nfovea: ok\n", b"..", b"../../etc/passwd", b"\x00", b"\xff\xfe\xc0\xaf", b"A" * 64, b"%s%n%n{}{0}"]


class Layout:
    """Where everything lies: `fields` are (offset, size) of numbers, `entries` (begin, end) of whole
    keys and tensors, `texts` (begin, end) of strings, `data` where the weights begin."""

    def __init__(self, blob):
        self.blob, self.at = blob, 8
        self.fields, self.lengths, self.entries, self.texts = [(4, 4)], [], [], []
        n_tensors, n_keys = self.number(8), self.number(8)
        for _ in range(n_keys):
            begin = self.at
            self.text()
            self.value(self.number(4))
            self.entries.append((begin, self.at))
        self.n_key_entries = n_keys
        for _ in range(n_tensors):
            begin = self.at
            self.text()
            for _ in range(self.number(4)):
                self.number(8)
            self.number(4)
            self.number(8)
            self.entries.append((begin, self.at))
        self.data = (self.at + 31) // 32 * 32

    def number(self, size):
        self.fields.append((self.at, size))
        value = int.from_bytes(self.blob[self.at : self.at + size], "little")
        self.at += size
        return value

    def text(self):
        self.lengths.append(self.at)
        n = self.number(8)
        self.texts.append((self.at, self.at + n))
        self.at += n

    def value(self, kind):
        if kind == STRING:
            self.text()
        elif kind == ARRAY:
            element, n = self.number(4), self.number(8)
            for i in range(n):
                if element == STRING and i < 8:
                    self.text()
                elif element == STRING:
                    self.at += 8 + int.from_bytes(self.blob[self.at : self.at + 8], "little")
                else:
                    self.at += SIZES[element]
        else:
            self.number(SIZES[kind])


def with_count(blob, offset, change):
    n = struct.unpack_from("<Q", blob, offset)[0]
    return blob[:offset] + struct.pack("<Q", n + change) + blob[offset + 8 :]


def mutate(blob, layout, rng):
    """One mutation: (what it is, the bytes)."""
    out = bytearray(blob)
    kind = rng.randrange(12)
    if kind == 0:
        at = rng.randrange(24)
        out[at] ^= 1 << rng.randrange(8)
        return f"bit-header-{at}", out
    if kind <= 2:
        for _ in range(rng.choice([1, 1, 1, 2, 8, 64])):
            out[rng.randrange(layout.data)] ^= 1 << rng.randrange(8)
        return "bit-metadata", out
    if kind <= 5:
        offset, size = rng.choice(layout.fields)
        value = rng.choice(EXTREMES) & (2 ** (8 * size) - 1)
        out[offset : offset + size] = value.to_bytes(size, "little")
        return f"extreme-{offset}-{value}", out
    if kind == 6:
        end = rng.choice([rng.randrange(len(blob)), rng.randrange(layout.data), rng.choice(layout.fields)[0]])
        return f"cut-{end}", out[:end]
    if kind == 7:
        a, b = rng.choice(layout.lengths), rng.choice(layout.lengths)
        out[a : a + 8], out[b : b + 8] = blob[b : b + 8], blob[a : a + 8]
        return f"swap-lengths-{a}-{b}", out
    if kind <= 9:
        i = rng.randrange(len(layout.entries))
        begin, end = layout.entries[i]
        count_at = 16 if i < layout.n_key_entries else 8
        change, name, middle = rng.choice([(1, "twice", blob[begin:end] * 2), (-1, "gone", b"")])
        out = blob[:begin] + middle + blob[end:]
        if rng.random() < 0.7:  # otherwise the count is wrong as well
            out = with_count(out, count_at, change)
        return f"entry-{i}-{name}", out
    if kind == 10:
        begin, end = rng.choice(layout.texts)
        text = rng.choice(HOSTILE)
        if rng.random() < 0.5:  # same length
            n = min(len(text), end - begin)
            out[begin : begin + n] = text[:n]
        else:
            out = blob[: begin - 8] + struct.pack("<Q", len(text)) + text + blob[end:]
        return f"text-{begin}", out
    if rng.random() < 0.3:
        return "trailing", out + bytes(rng.randrange(256) for _ in range(rng.randrange(1, 100)))
    at = rng.randrange(layout.data, len(blob) - 4)
    out[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\x00\x00\x80\x7f", b"\x00\x7c\x00\x7c"])
    return f"weights-{at}", out


def mutations(blob, count, seed=1):
    layout, rng = Layout(blob), random.Random(seed)
    for i in range(count):
        what, out = mutate(blob, layout, rng)
        yield f"{i:04}-{what}", bytes(out)


def main():
    if len(sys.argv) not in (3, 4, 5):
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    count, seed = int(sys.argv[3]) if len(sys.argv) > 3 else 300, int(sys.argv[4]) if len(sys.argv) > 4 else 1
    for name, blob in mutations(pathlib.Path(sys.argv[1]).read_bytes(), count, seed):
        (folder / f"{name}.gguf").write_bytes(blob)


if __name__ == "__main__":
    main()
