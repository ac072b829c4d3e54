"""Does another trellis beat pi-t3 or pi-t2 at the same bits? Measures candidates and says which pay.

    python build/format_search.py                           prints the tables, some ten minutes
    python build/format_search.py --write docs/formats.md   puts them between the page's markers
    python build/format_search.py --bits 2 --only "table" --quick --json     a taste, in seconds

Every candidate is searched exactly (Viterbi over all its states, scales tried one by one around the usual
one), on Gaussian rows and on GPT-2's attention projections after the Hadamard transform. Tables that aren't
given are designed here, for Gaussian weights, from a fixed seed, on other weights than are measured. Bits
count side information, for rows of 768. "instructions": vector instructions that decode 16 weights in
WebAssembly with relaxed SIMD (without loads and stores), and how many of them are table lookups; "ns": a
product's time for 16 weights, rows in the nearest cache, in WebAssembly (Node) and natively (SSE4.1); both
from build/trellis/kernels.c, so compare them within this table. "branches": what the encoder looks at for
each weight and scale. A candidate pays if it gains 0.3 dB on both kinds of weights at no more bits, and its
product takes at most 1.1 times as long. References see every fourth row. Needs clang-19, Node, and the data
folder (RUVQ_DATA, docs/data.md).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_folder import add_data, lacks
from pages import insert
from ruvq import hadamard
from ruvq.evaluate.schemes import Matrices
from ruvq.quantize import dequantize, quantize
from trellis.candidates import SHIPPED, Candidate, candidates
from trellis.design import Designer, Effort
from trellis.headers import ByteAndK
from trellis.kernels import Cost, costs
from trellis.measure import Weights, rounded

MARKER = "format search"
SEED, WIDTH = 0, 768
NEEDED_DB, ALLOWED_TIME = 0.3, 1.1
MANY_BRANCHES, FEWER_ALPHAS, FEWER_ROWS = 512, 5, 4
QUICK = Effort(starts=2, rounds=4, shakes=1, blocks=32)


@dataclass(frozen=True)
class Result:
    """Of one candidate. `tables` are empty for computed values."""

    candidate: Candidate
    bits: float
    gaussian_db: float
    gpt2_db: float
    cost: Cost | None
    tables: list[list[int]]

    def verdict(self, base: Result) -> str:
        """Whether it pays, and why not."""
        if self.candidate.name == base.candidate.name:
            return "the format, every scale tried"
        if self.candidate.encoder:
            return "the format"
        gain = min(self.gaussian_db - base.gaussian_db, self.gpt2_db - base.gpt2_db)
        if self.cost is None or base.cost is None:
            slow = f"{self.lookups} lookups, not timed"
        else:
            slow = "slower" if self.cost.wasm_ns > ALLOWED_TIME * base.cost.wasm_ns else ""
        if self.candidate.reference:
            return "a reference: too slow"
        if self.bits > base.bits + 1e-9:
            return f"dropped: more bits, {gain:+.2f} dB"
        if gain < NEEDED_DB:
            return f"dropped: {gain:+.2f} dB" + (f", {slow}" if slow else "")
        return f"dropped: {slow} ({gain:+.2f} dB)" if slow else f"pays: {gain:+.2f} dB"

    @property
    def lookups(self) -> int:
        """In tables of 16, at the least."""
        return sum(self.candidate.code.sizes) // 16

    def as_dict(self, base: Result) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.candidate.name,
            "code_bits": self.candidate.bits,
            "bits_per_weight": self.bits,
            "states": self.candidate.code.states,
            "branches": self.candidate.branches,
            "snr_db_gaussian": self.gaussian_db,
            "snr_db_gpt2_hadamard": self.gpt2_db,
            "decoding": self.cost.__dict__ if self.cost else None,
            "tables": self.tables,
            "verdict": self.verdict(base),
        }


def read_weights(data: Path, rows: int) -> tuple[Weights, Weights]:
    """Gaussian rows, and so many of each of GPT-2's matrices after the transform."""
    with Matrices(data / "gpt2_attention" / "layers_0_5.safetensors", rows=rows) as opened:
        real = tuple(hadamard(m.values, SEED, as_numpy=True) for m in opened)
    random = np.random.default_rng([SEED, 2])
    gaussian = random.standard_normal((rows * len(real), WIDTH)).astype(np.float32)
    return Weights("Gaussian", (gaussian,)), Weights("GPT-2 + Hadamard", real)


class Search:
    """One run over all candidates of some number of bits; `designed` keeps tables at their names."""

    def __init__(self, weights: tuple[Weights, Weights], effort: Effort) -> None:
        self.weights, self.effort = weights, effort
        self.designed: dict[tuple[int, str], list[np.ndarray]] = {}

    def tables(self, candidate: Candidate) -> list[np.ndarray]:
        """Given or designed ones."""
        if candidate.tables is not None:
            found = list(candidate.tables)
        else:
            known = []
            if candidate.after is not None:  # each entry once for every value of the bits that came in below
                old = self.designed[candidate.bits, candidate.after][0]
                table = np.repeat(old, candidate.code.sizes[0] // len(old))
                known.append([table / np.sqrt((table**2).mean())])
            found = Designer(candidate.code, self.effort, SEED).design(known)
        self.designed[candidate.bits, candidate.name] = found
        return found

    def rounding(self, candidate: Candidate, tables: list[np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
        """From weights to what they decode to."""
        if candidate.encoder is not None:
            return lambda w: dequantize(quantize(w, candidate.encoder), as_numpy=True)
        header = candidate.header
        if isinstance(header, ByteAndK) and candidate.branches > MANY_BRANCHES:
            header = replace(header, radius=FEWER_ALPHAS)
        trellis = candidate.code.trellis(tables)
        return lambda w: rounded(trellis, header, w, candidate.tail_biting)

    def measure(self, candidate: Candidate, cost: Cost | None) -> Result:
        """Both kinds of weights."""
        tables = self.tables(candidate)
        every = FEWER_ROWS if candidate.reference else 1
        found = [w.snr_db(self.rounding(candidate, tables), every) for w in self.weights]
        shown = [] if candidate.reference else [[int(v) for v in t] for t in tables]
        bits = candidate.bits + candidate.header.side_bits(WIDTH)
        return Result(candidate, bits, found[0], found[1], cost, shown)


def cells(result: Result, base: Result) -> str:
    """A row of the Markdown table."""
    cost = result.cost
    if cost is not None:
        decoding = [
            f"{cost.instructions:.1f}, {cost.lookups:.0f}",
            f"{cost.wasm_ns:.2f}",
            f"{cost.native_ns:.2f}",
        ]
    else:
        decoding = ["computed" if result.candidate.reference else f"?, {result.lookups}", "", ""]
    row = [
        result.candidate.name,
        f"{result.bits:.4f}",
        str(result.candidate.code.states),
        f"{result.gaussian_db:.2f}",
        f"{result.gpt2_db:.2f}",
        *decoding,
        str(result.candidate.branches),
        result.verdict(base),
    ]
    return "| " + " | ".join(row) + " |"


HEAD = (
    "candidate",
    "bits",
    "states",
    "Gaussian, dB",
    "GPT-2, dB",
    "instructions, lookups",
    "ns, wasm",
    "ns, native",
    "branches",
    "verdict",
)


def tables(groups: list[list[Result]], rows: int) -> str:
    """Markdown: one table for each number of bits, and the tables of what pays."""
    about = (
        f"{rows} rows of each of GPT-2's eight matrices, and as many Gaussian ones. A Gaussian source allows "
        + " and ".join(f"{6.0206 * g[0].bits:.2f} dB at {g[0].bits:.4f} bits" for g in groups)
        + "."
    )
    out = [*textwrap.wrap(about, 110)]
    for group in groups:
        out += ["", "| " + " | ".join(HEAD) + " |", "|" + " --- |" * len(HEAD)]
        out += [cells(result, group[0]) for result in group]
    for group in groups:
        for result in group:
            if result.verdict(group[0]).startswith("pays"):
                out += ["", f'Tables of "{result.candidate.name}", {result.candidate.bits} bits:', "", "```"]
                for table in result.tables:
                    out += textwrap.wrap(" ".join(map(str, table)), 110)
                out.append("```")
    return "\n".join(out)


def run(args: argparse.Namespace) -> list[list[Result]]:
    """All results, shown as they come."""
    search = Search(read_weights(args.data, args.rows), QUICK if args.quick else Effort())
    wanted = {bits: _chosen(candidates(bits), args.only) for bits in args.bits}
    kinds = sorted({c.kernel for group in wanted.values() for c in group if c.kernel})
    print(f"timing {len(kinds)} kernels", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        found = costs(kinds, Path(folder))
    groups = []
    for group in wanted.values():
        print("| " + " | ".join(HEAD) + " |", file=sys.stderr, flush=True)
        results: list[Result] = []
        for candidate in group:
            if args.quick and candidate.reference:
                continue
            results.append(search.measure(candidate, found[candidate.kernel] if candidate.kernel else None))
            print(cells(results[-1], results[0]), file=sys.stderr, flush=True)
        groups.append(results)
    return groups


def _chosen(group: list[Candidate], only: str | None) -> list[Candidate]:
    """The format itself, those whose name contains `only`, and those that these start from."""
    if only is None:
        return group
    names = {c.name for c in group if only in c.name} | {group[0].name}
    for candidate in reversed(group):
        if candidate.name in names and candidate.after:
            names.add(candidate.after)
    return [c for c in group if c.name in names]


def main() -> int:
    """Prints the tables or writes them into a page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data(parser)
    parser.add_argument("--rows", type=int, default=32, help="rows of each matrix (default 32)")
    parser.add_argument("--bits", type=int, nargs="+", choices=SHIPPED, default=list(SHIPPED))
    parser.add_argument("--only", metavar="TEXT", help="candidates whose name contains this")
    parser.add_argument("--quick", action="store_true", help="hasty designs, no references of 16 bits")
    parser.add_argument("--json", action="store_true", help="every figure and table, to standard output")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="Markdown page to put the tables into")
    args = parser.parse_args()
    if lacks(args.data, "gpt2_attention"):
        return 3
    if args.rows < 1:
        parser.error(f"--rows: expected at least 1, got {args.rows}")
    groups = run(args)
    content = tables(groups, args.rows)
    if args.write:
        insert(args.write, MARKER, content)
    if args.json:
        print(json.dumps([[r.as_dict(group[0]) for r in group] for group in groups]))
    elif not args.write:
        print(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
