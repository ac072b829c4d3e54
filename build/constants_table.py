"""Other constants in pi's place, and a constant of its own for each layer type: does any of it matter?

    python build/constants_table.py                            prints the table
    python build/constants_table.py --write docs/pi-quant.md   puts it between the page's markers
    python build/constants_table.py --rows 32 --json           fewer rows of each matrix, all figures as JSON

A block of 256 weights (and the rest of a row) becomes levels q times a step d = alpha * c / k, q in [-4, 3]
or [-2, 1], for c = pi, e, phi, sqrt 2, ln 2 and 1. Four rules for alpha, the same for every constant:

    alpha = rms             the plan's: the block's root mean square, k = 4 (3 bits) or 3 (2 bits)
    alpha = rms, any k      the set of steps the plan can name: the best k of 2 to 5 for each block
    alpha a byte, k per 64  the side information of pi-t3: alpha has 3 bits of mantissa
    alpha searched          alpha a f16 of either sign, as pi-q3 has it, least squared error

"mixed" takes for each layer type (attn_q, ffn_up, ...) the constant that is best on these very weights, which
is the most that mixing can give. Figures are signal-to-noise ratios in dB, means over the matrices. Needs the
data folder (RUVQ_DATA, docs/data.md); some minutes.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_folder import add_data, lacks
from pages import insert
from ruvq import hadamard
from ruvq.evaluate.schemes import Matrices, Matrix

MARKER = "constants"
CONSTANTS = {
    "pi": math.pi,
    "e": math.e,
    "phi": (1 + math.sqrt(5)) / 2,
    "√2": math.sqrt(2),
    "ln 2": math.log(2),
    "1": 1.0,
}
BLOCK, GROUP = 256, 64
KS = (2, 3, 4, 5)
PLAN_K = {3: 4, 2: 3}
SEED, ROWS = 0, 96
ALIKE = 0.01  # dB: closer than this the choice among constants means nothing
ALPHA_BYTES = (np.arange(1, 248, dtype=np.uint16) << 7).view(np.float16).astype(np.float64)
LADDER = 2.0 ** (-np.arange(40) / 8)  # of the step, from the largest weight down
REFITS = 8


def rounded(x: np.ndarray, d: np.ndarray, bits: int) -> np.ndarray:
    """The nearest levels of x (blocks, n) times the steps d (blocks, 1); a step of 0 gives 0."""
    t = np.divide(x, d, out=np.zeros_like(x), where=d != 0)
    return np.clip(np.rint(t), -(1 << bits - 1), (1 << bits - 1) - 1) * d


def _half(d: np.ndarray) -> np.ndarray:
    return d.astype(np.float16).astype(np.float64)


def _better(x: np.ndarray, best: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Row by row the one that is nearer to x."""
    nearer = ((x - other) ** 2).sum(1) < ((x - best) ** 2).sum(1)
    return np.where(nearer[:, None], other, best)


def _rms(x: np.ndarray) -> np.ndarray:
    return np.sqrt((x**2).mean(1, keepdims=True))


def plan_rule(x: np.ndarray, c: float, bits: int) -> np.ndarray:
    """alpha = rms, one k."""
    return rounded(x, _half(_rms(x) * c / PLAN_K[bits]), bits)


def plan_set(x: np.ndarray, c: float, bits: int) -> np.ndarray:
    """alpha = rms, the best k of each block."""
    best = np.zeros_like(x)
    for k in KS:
        best = _better(x, best, rounded(x, _half(_rms(x) * c / k), bits))
    return best


def byte_rule(x: np.ndarray, c: float, bits: int) -> np.ndarray:
    """alpha a byte for the block, the best k for each 64 weights; every useful byte is tried."""
    best = np.zeros_like(x)
    with np.errstate(divide="ignore"):
        centre = np.log2(_rms(x) / c)
    scale = 2.0 ** np.floor(
        np.where(np.isfinite(centre), centre, 0.0)
    )  # the byte's own range is no limit here
    for alpha in ALPHA_BYTES[(ALPHA_BYTES >= 0.25) & (ALPHA_BYTES <= 16)]:
        decoded = np.empty_like(x)
        for start in range(0, x.shape[1], GROUP):
            part = np.ascontiguousarray(x[:, start : start + GROUP])
            nearest = np.zeros_like(part)
            for k in KS:
                nearest = _better(part, nearest, rounded(part, scale * alpha * c / k, bits))
            decoded[:, start : start + GROUP] = nearest
        best = _better(x, best, decoded)
    return best


def free_rule(x: np.ndarray, c: float, bits: int) -> np.ndarray:
    """alpha a f16 of either sign: a ladder of steps, then alternating least squares, then f16 neighbours."""
    unit = c / PLAN_K[bits]
    best, alpha = np.zeros_like(x), np.zeros((len(x), 1), np.float16)

    def offer(candidate: np.ndarray) -> None:
        nonlocal best, alpha
        decoded = rounded(x, candidate.astype(np.float64) * unit, bits)
        nearer = ((x - decoded) ** 2).sum(1, keepdims=True) < ((x - best) ** 2).sum(1, keepdims=True)
        best, alpha = np.where(nearer, decoded, best), np.where(nearer, candidate, alpha)

    largest = np.abs(x).max(1, keepdims=True)
    for ratio in LADDER:
        for sign in (1.0, -1.0):
            offer((sign * ratio * largest / unit).astype(np.float16))
    for _ in range(REFITS):
        d = alpha.astype(np.float64) * unit
        q = np.divide(best, d, out=np.zeros_like(x), where=d != 0)
        power = (q * q).sum(1, keepdims=True)
        fit = np.divide((x * q).sum(1, keepdims=True), power, out=np.zeros_like(d), where=power > 0)
        offer((fit / unit).astype(np.float16))
    for towards in (np.float16(-np.inf), np.float16(np.inf)):
        offer(np.nextafter(alpha, towards))
    return best


RULES: dict[str, Callable[[np.ndarray, float, int], np.ndarray]] = {
    "alpha = rms": plan_rule,
    "alpha = rms, any k": plan_set,
    "alpha a byte, k per 64": byte_rule,
    "alpha searched": free_rule,
}


def by_blocks(w: np.ndarray, rule: str, c: float, bits: int) -> np.ndarray:
    """What (rows, width) decodes to: rows are blocks of 256 and a rest."""
    out = np.empty(w.shape)
    whole = w.shape[1] // BLOCK * BLOCK
    for part in (slice(0, whole), slice(whole, w.shape[1])):
        if part.start < part.stop:
            x = w[:, part].astype(np.float64)
            size = min(BLOCK, x.shape[1])
            out[:, part] = RULES[rule](x.reshape(-1, size), c, bits).reshape(x.shape)
    return out


def snr_db(w: np.ndarray, decoded: np.ndarray) -> float:
    """Signal-to-noise ratio."""
    return float(10 * np.log10((w.astype(np.float64) ** 2).sum() / ((w - decoded) ** 2).sum()))


@dataclass(frozen=True)
class Line:
    """Under one rule: the mean of every constant, of the mixture, and what each layer type chose."""

    weights: str
    bits: int
    preparation: str
    rule: str
    constants: dict[str, float]
    mixed: float
    chosen: dict[str, str]


def layer_type(name: str) -> str:
    """`attn_q` of `blk.3.attn_q.weight`."""
    return name.removesuffix(".weight").split(".")[-1]


def mix(found: dict[str, dict[str, float]]) -> tuple[float, dict[str, str]]:
    """Of matrix -> constant -> dB: the mean with each layer type's best constant, and these constants."""
    types: dict[str, list[dict[str, float]]] = {}
    for name, values in found.items():
        types.setdefault(layer_type(name), []).append(values)
    chosen, total = {}, 0.0
    for kind, members in types.items():
        sums = {c: sum(values[c] for values in members) for c in members[0]}
        chosen[kind] = max(sums, key=lambda c: sums[c])
        total += sums[chosen[kind]]
    return total / len(found), chosen


def lines(label: str, matrices: list[Matrix]) -> Iterator[Line]:
    """Every number of bits, preparation and rule on these matrices."""
    for bits in (3, 2):
        for preparation in ("none", "hadamard"):
            prepared = {
                m.name: hadamard(m.values, SEED, as_numpy=True) if preparation == "hadamard" else m.values
                for m in matrices
            }
            for rule in RULES:
                found = {
                    name: {key: snr_db(w, by_blocks(w, rule, c, bits)) for key, c in CONSTANTS.items()}
                    for name, w in prepared.items()
                }
                means = {key: sum(f[key] for f in found.values()) / len(found) for key in CONSTANTS}
                yield Line(label, bits, preparation, rule, means, *mix(found))


def cells(line: Line) -> str:
    """A row of the Markdown table."""
    values = line.constants.values()
    alike = max(values) - min(values) < ALIKE
    chosen = ["any"] if alike else sorted(set(line.chosen.values()), key=lambda c: -CONSTANTS[c])
    shown = [f"{line.constants[c]:.2f}" for c in CONSTANTS]
    first = [line.weights, str(line.bits), line.preparation, line.rule]
    return "| " + " | ".join([*first, *shown, f"{line.mixed:.2f}", ", ".join(chosen)]) + " |"


def measure(data: Path, rows: int) -> list[Line]:
    """All lines, shown as they come."""
    places: dict[str, tuple[Path, dict[str, Any]]] = {
        "GPT-2": (data / "gpt2_attention" / "layers_0_5.safetensors", {}),
        "stories260K": (
            data / "stories260K" / "stories260K.bin",
            {"tokenizer": str(data / "stories260K" / "tok512.bin")},
        ),
    }
    out = []
    for label, (path, options) in places.items():
        with Matrices(path, rows=rows, **options) as opened:
            matrices = list(opened)
        for line in lines(label, matrices):
            out.append(line)
            print(cells(line), file=sys.stderr, flush=True)
    return out


def table(found: list[Line], rows: int) -> str:
    """The Markdown table with what was measured above it."""
    head = ["weights", "bits", "preparation", "rule", *CONSTANTS, "mixed", "mixed takes"]
    searched = [x.constants.values() for x in found if x.rule == "alpha searched"]
    spread = max(max(values) - min(values) for values in searched)
    gain = max(x.mixed - max(x.constants.values()) for x in found)
    about = (
        "Signal-to-noise ratio in dB, mean over matrices of which the first "
        f"{rows} rows were taken. Under the searched rule the constants are at most {spread:.4f} dB "
        "apart (alpha is rounded to f16). Mixing gains at most "
        f"{gain:.3f} dB over the best single constant under the same rule."
    )
    return "\n".join(
        [
            *textwrap.wrap(about, 110),
            "",
            "| " + " | ".join(head) + " |",
            "|" + " --- |" * len(head),
            *map(cells, found),
        ]
    )


def main() -> int:
    """Prints the table or writes it into a page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data(parser)
    parser.add_argument("--rows", type=int, default=ROWS, help=f"rows of each matrix (default {ROWS})")
    parser.add_argument("--json", action="store_true", help="every figure, to standard output")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="Markdown page to put the table into")
    args = parser.parse_args()
    if lacks(args.data, "stories260K"):
        return 3
    if args.rows < 1:
        parser.error(f"--rows: expected at least 1, got {args.rows}")
    found = measure(args.data, args.rows)
    if args.write:
        insert(args.write, MARKER, table(found, args.rows))
    if args.json:
        print(json.dumps({"rows": args.rows, "lines": [line.__dict__ for line in found]}))
    elif not args.write:
        print(table(found, args.rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
