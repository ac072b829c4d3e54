"""Writes the codebooks of ggml's IQ1, IQ2 and IQ3 formats as a C header, out of the gguf package.

    python build/generate_codebooks.py out/generated/codebooks.h

`make native` and `make wasm` run it; it needs gguf and NumPy, which `make setup` installs.
"""

from __future__ import annotations

import sys
from pathlib import Path

HEADER = """\
/* codebooks.h: points of ggml's IQ formats. Written by build/generate_codebooks.py from the gguf package.
 * Each number is a point: coordinate k in bits 2k and 2k + 1 (in IQ3 three bits from 3k on), as an index of
 * the values in formats/ggml_lattice.c. */
#ifndef RQ_CODEBOOKS_H
#define RQ_CODEBOOKS_H
#include <stdint.h>

"""
# name in C, class in gguf.quants, points, coordinates, values
BOOKS: list[tuple[str, str, int, int, tuple[int, ...]]] = [
    ("iq2_xxs", "IQ2_XXS", 256, 8, (8, 25, 43)),
    ("iq2_xs", "IQ2_XS", 512, 8, (8, 25, 43)),
    ("iq2_s", "IQ2_S", 1024, 8, (8, 25, 43)),
    ("iq3_xxs", "IQ3_XXS", 256, 4, (4, 12, 20, 28, 36, 44, 52, 62)),
    ("iq3_s", "IQ3_S", 512, 4, (1, 3, 5, 7, 9, 11, 13, 15)),
    ("iq1", "IQ1_S", 2048, 8, (-1, 0, 1)),
]
PER_LINE = 12


def points(source: str, count: int, coordinates: int, values: tuple[int, ...]) -> list[int]:
    """The points of one codebook, packed. ValueError when the package holds another one than expected."""
    from gguf import quants

    book = getattr(quants, source)
    book.init_grid()
    grid = book.grid.reshape(count, coordinates)
    if not set(grid.ravel().tolist()) <= set(values):
        raise ValueError(f"{source}: values other than {values} in the gguf package's codebook")
    bits = 2 if len(values) <= 4 else 3
    return [sum(values.index(int(v)) << bits * k for k, v in enumerate(point)) for point in grid]


def main() -> int:
    """Writes the header; the exit status."""
    target = Path(sys.argv[1])
    try:
        import gguf  # noqa: F401
    except ImportError:
        print(
            "the gguf package is needed to build the core, because ggml's codebooks come from it: "
            "run `make setup`, or set BUILD_PYTHON to a Python that has it",
            file=sys.stderr,
        )
        return 1
    text = HEADER
    for name, source, count, coordinates, values in BOOKS:
        numbers = points(source, count, coordinates, values)
        text += f"static const uint16_t rq_points_{name}[{len(numbers)}] = {{\n"
        for i in range(0, len(numbers), PER_LINE):
            text += "    " + "".join(f"{n}, " for n in numbers[i : i + PER_LINE]).rstrip() + "\n"
        text += "};\n"
    text += "\n#endif\n"
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    part.write_text(text)
    part.replace(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
