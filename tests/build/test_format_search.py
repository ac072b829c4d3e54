"""The search of trellis formats: its ways are the best, its candidates decode, its kernels compute them."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "build"))

from format_search import MARKER
from ruvq import dequantize, quantize
from trellis.candidates import C, Candidate, candidates
from trellis.codes import Code
from trellis.design import Designer, Effort
from trellis.headers import ByteAndK, RowAndSteps
from trellis.kernels import compiled, counted
from trellis.measure import rounded, snr_db
from trellis.viterbi import ANY, search, search_tail_biting

LITTLE = Effort(starts=1, rounds=2, shakes=1, blocks=4)
SMALL = [c for bits in (2, 3) for c in candidates(bits) if c.branches <= 4096]


def shipped(bits: int) -> Candidate:
    return candidates(bits)[0]


def by_name(bits: int, name: str) -> Candidate:
    return next(c for c in candidates(bits) if c.name == name)


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    """Two blocks a row, some with outliers, one of zeros."""
    w = np.random.default_rng(11).standard_t(5, size=(9, 512)).astype(np.float32)
    w[3, :256] = 0
    return w


def decode(code: Code, tables: list[np.ndarray], symbols: np.ndarray, state: int) -> list[float]:
    """One weight after the other, from codes (count) and the state before them."""
    after = {
        (int(code.came[s, j]), int(code.symbols[s, j])): (s, j)
        for s in range(code.states)
        for j in range(1 << code.bits)
    }
    values = code.trellis(tables).values
    out = []
    for symbol in symbols:
        at = after[state, int(symbol)]
        out.append(float(values[at]))
        state = at[0]
    return out


def test_pi_t2_is_found_as_its_encoder_finds_it(rows: np.ndarray) -> None:
    header = ByteAndK(2, c=C[2], radius=247)
    trellis = shipped(2).code.trellis(shipped(2).tables or ())
    written = dequantize(quantize(rows, "pi-t2", effort=247), as_numpy=True)
    np.testing.assert_array_equal(rounded(trellis, header, rows), written)


def test_pi_t3_is_as_good_as_its_encoder_makes_it(rows: np.ndarray) -> None:
    header = ByteAndK(3, c=C[3], radius=247)
    trellis = shipped(3).code.trellis(shipped(3).tables or ())
    written = dequantize(quantize(rows, "pi-t3", effort=247), as_numpy=True)
    found = rounded(trellis, header, rows)
    assert snr_db(rows, found) == pytest.approx(snr_db(rows, written), abs=1e-4)
    assert np.mean(found == written) > 0.95  # where two ways cost the same but for rounding


@pytest.mark.parametrize("bits", [2, 3])
def test_mixed_formats_are_found_as_their_encoders_find_them(rows: np.ndarray, bits: int) -> None:
    candidate = by_name(bits, f"pi-x{bits}")
    trellis = candidate.code.trellis(candidate.tables or ())
    written = dequantize(quantize(rows, candidate.name, effort=247), as_numpy=True)
    found = rounded(trellis, ByteAndK(bits, radius=247), rows)
    assert snr_db(rows, found) == pytest.approx(snr_db(rows, written), abs=1e-4)
    assert np.mean(found == written) > 0.95


def test_no_way_is_better_than_the_one_found() -> None:
    candidate = by_name(2, "two tables, of codes t, t-1 and t-1, t-2")
    random = np.random.default_rng(2)
    tables = [random.normal(size=16), random.normal(size=16)]
    x = random.normal(size=(3, 6)).astype(np.float32)
    scales = np.array([[0.7, 1.2]] * 3, np.float32)
    found = search(candidate.code.trellis(tables), x, scales, 3)
    every = np.array([decode(candidate.code, tables, np.array(s), 0) for s in product(range(4), repeat=6)])
    for row, cost in zip(x, found.cost, strict=True):
        options = [every * np.repeat(pair, 3) for pair in product(scales[0], repeat=2)]
        least = min(float(((row - values) ** 2).sum(1).min()) for values in options)
        assert cost == pytest.approx(least, rel=1e-5)


@pytest.mark.parametrize("candidate", SMALL, ids=lambda c: f"{c.bits} {c.name}")
def test_every_candidate_has_as_many_ways_on_as_codes_and_decodes(candidate: Candidate) -> None:
    code, ways = candidate.code, 1 << candidate.bits
    assert (np.bincount(code.came.ravel(), minlength=code.states) == ways).all()
    leaving = code.came.ravel() * ways + code.symbols.ravel()
    assert len(set(leaving.tolist())) == code.states * ways  # each code leads on from each state, once
    random = np.random.default_rng(3)
    tables = list(candidate.tables or [random.normal(size=size) for size in code.sizes])
    x = random.normal(size=(2, 64)).astype(np.float32)
    found = search(code.trellis(tables), x, np.ones((2, 1), np.float32), 64)
    for row in range(2):
        symbols = code.symbols.ravel()[found.branches[row]]
        np.testing.assert_allclose(decode(code, tables, symbols, 0), found.decoded[row], rtol=1e-6)


@pytest.mark.parametrize("name", ["pi-t3, tail-biting", "two tables, one of each plane"])
def test_a_tail_biting_block_decodes_from_its_codes_alone(rows: np.ndarray, name: str) -> None:
    candidate = by_name(3, name)
    code = candidate.code
    random = np.random.default_rng(4)
    tables = list(candidate.tables or [random.normal(size=size) for size in code.sizes])
    blocks = np.ascontiguousarray(rows.reshape(-1, 256)[:5])
    scales = np.full((5, 1), 0.03 if candidate.tables else 1.0, np.float32)
    closed = search(code.trellis(tables), blocks, scales, 256, 0, 0)
    free = search(code.trellis(tables), blocks, scales, 256, ANY, ANY)
    found = search_tail_biting(code.trellis(tables), blocks, scales, 256)
    assert (found.cost >= free.cost).all()
    if code.states <= 16:
        assert (found.cost <= closed.cost).all()  # exact, and state 0 is one of those tried
    for row in range(5):
        symbols = code.symbols.ravel()[found.branches[row]]
        last = found.branches[row, -1] // (1 << code.bits)  # follows from the last codes
        expected = np.array(decode(code, tables, symbols, int(last))) * scales[row, 0]
        np.testing.assert_allclose(found.decoded[row], expected, rtol=1e-5)


def test_designed_tables_are_odd_integers_of_seven_bits_and_always_the_same() -> None:
    code = by_name(3, "two tables, one of each plane").code
    first, again, other = (Designer(code, LITTLE, seed).design() for seed in (0, 0, 1))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, -a[::-1])
        np.testing.assert_array_equal(a, np.rint(a))
    assert any((a != b).any() for a, b in zip(first, other, strict=True))
    values = code.trellis(first).values
    assert 50 < np.abs(values).max() <= 63


def test_more_side_information_counts_and_never_hurts(rows: np.ndarray) -> None:
    trellis = shipped(3).code.trellis(shipped(3).tables or ())
    few, many = RowAndSteps(64, 1, 1.3), RowAndSteps(64, 2, 1.3**0.5)
    assert many.side_bits(512) - few.side_bits(512) == pytest.approx(1 / 64)
    assert shipped(3).header.side_bits(512) == 16 / 256
    assert snr_db(rows, rounded(trellis, many, rows)) > snr_db(rows, rounded(trellis, few, rows))


TWO_TABLES = {
    "two_before": 1,
    "two_mixed": 1,
    "two_swapped": 1,
    "two_16": 1,
    "three_planes": 2,
    "three_mixed": 1,
    "three_crossed": 1,
}


@pytest.mark.parametrize("kind", [*TWO_TABLES, "pi_t2"])
def test_kernels_compute_their_codes(tmp_path: Path, kind: str) -> None:
    import cffi

    candidate = next(c for bits in (2, 3) for c in candidates(bits) if c.kernel == kind)
    code, random = candidate.code, np.random.default_rng(6)
    tables = [random.integers(0, 32, size) for size in code.sizes]
    symbols = random.integers(0, 1 << code.bits, (2, 16, 16))  # rows, lanes, steps
    x = random.integers(-127, 128, (16, 16), np.int8)  # steps, lanes
    # lanes begin with zeros before them: in a file the lane below stands there
    expected = sum(
        float(np.dot(decode(code, tables, symbols[r, lane], 0), x[:, lane].astype(float)))
        for r in range(2)
        for lane in range(16)
    )
    data = bytearray()
    for r in range(2):
        upper = symbols[r] >> (code.bits - 2)
        for g in range(4):
            data += bytes(sum(int(upper[lane, 4 * g + j]) << 2 * j for j in range(4)) for lane in range(16))
        for h in range(2 if code.bits == 3 else 0):
            low = symbols[r] & 1
            data += bytes(sum(int(low[lane, 8 * h + j]) << j for j in range(8)) for lane in range(16))
    entries = np.zeros((8, 16), np.uint8)
    swap = np.arange(16) >> 2 | (np.arange(16) & 3) << 2
    entries[0], entries[1] = tables[0], tables[0][swap]
    if kind in TWO_TABLES:
        entries[TWO_TABLES[kind]] = tables[1]
    if kind == "two_swapped":
        entries[2] = swap
    if kind == "three_crossed":
        entries[2] = [int(f"{i:04b}"[::-1], 2) for i in range(16)]
    ffi = cffi.FFI()
    ffi.cdef("int32_t products(const void *, const void *, int32_t, int32_t, const void *);")
    library = ffi.dlopen(str(compiled(kind, tmp_path)[2]))
    pointers = [ffi.from_buffer(a) for a in (entries, data, np.ascontiguousarray(x))]
    assert library.products(pointers[0], pointers[1], 2, 1, pointers[2]) == expected


def test_instructions_are_counted_where_they_are(tmp_path: Path) -> None:
    lookups = {}
    for kind, number in {"pi_t2": 1, "pi_t3": 2, "two_free": 4}.items():
        total, lookups[kind] = counted(compiled(kind, tmp_path)[0])
        assert lookups[kind] == number
        assert total > number


def test_the_command_measures_and_says_what_pays(repository: Path, data_dir: Path) -> None:
    command = [sys.executable, "build/format_search.py", "--data", str(data_dir), "--rows", "1", "--quick"]
    command += ["--bits", "2", "--only", "per row", "--json"]
    run = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True)
    (group,) = json.loads(run.stdout)
    assert group[0]["name"] == "pi-t2"
    assert len(group) == 4
    for result in group:
        assert 9 < result["snr_db_gaussian"] < 6.0206 * result["bits_per_weight"]
        assert result["decoding"]["wasm_ns"] > 0
    assert "more bits" in next(r["verdict"] for r in group if r["bits_per_weight"] > 2.0626)


def test_the_page_has_a_place_for_the_tables(repository: Path) -> None:
    text = (repository / "docs" / "formats.md").read_text(encoding="utf-8")
    assert text.count(f"<!-- {MARKER}: begin -->") == text.count(f"<!-- {MARKER}: end -->") == 1
