"""Constants in pi's place: the rules are the formats' own, and where alpha is free the constant is none."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "build"))

from constants_table import CONSTANTS, MARKER, RULES, by_blocks, layer_type, mix, snr_db
from ruvq import dequantize, quantize


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    """A full block and a rest; a block of zeros too."""
    w = np.random.default_rng(5).standard_t(6, size=(6, 256 + 44)).astype(np.float32)
    w[0, :256] = 0
    return w


@pytest.mark.parametrize("bits", [2, 3])
def test_the_plans_rule_with_pi_is_what_the_encoder_writes(rows: np.ndarray, bits: int) -> None:
    written = dequantize(quantize(rows, f"pi-q{bits}", scale="rms"), as_numpy=True)
    found = by_blocks(rows, "alpha = rms", CONSTANTS["pi"], bits)
    np.testing.assert_array_equal(found.astype(np.float32), written)


@pytest.mark.parametrize("bits", [2, 3])
def test_a_searched_alpha_makes_constants_equal_and_matches_the_encoder(rows: np.ndarray, bits: int) -> None:
    written = snr_db(rows, dequantize(quantize(rows, f"pi-q{bits}"), as_numpy=True))
    for constant in CONSTANTS.values():
        found = snr_db(rows, by_blocks(rows, "alpha searched", constant, bits))
        assert found == pytest.approx(written, abs=0.01)


@pytest.mark.parametrize("rule", RULES)
def test_zeros_stay_zeros_and_nothing_is_left_unwritten(rows: np.ndarray, rule: str) -> None:
    decoded = by_blocks(rows, rule, CONSTANTS["e"], 3)
    assert not decoded[0, :256].any()
    assert np.isfinite(decoded).all()
    assert snr_db(rows, decoded) > 9


def test_a_richer_set_of_steps_is_never_worse(rows: np.ndarray) -> None:
    for constant in CONSTANTS.values():
        one, some = (
            snr_db(rows, by_blocks(rows, r, constant, 3)) for r in ("alpha = rms", "alpha = rms, any k")
        )
        assert some >= one


def test_mixing_takes_the_best_constant_of_each_layer_type() -> None:
    found = {
        "blk.0.attn_q.weight": {"pi": 10.0, "e": 12.0},
        "blk.1.attn_q.weight": {"pi": 13.0, "e": 12.0},
        "blk.0.ffn_up.weight": {"pi": 9.0, "e": 8.0},
    }
    assert layer_type("blk.0.attn_q.weight") == "attn_q"
    mean, chosen = mix(found)
    assert chosen == {"attn_q": "e", "ffn_up": "pi"}
    assert mean == pytest.approx((12 + 12 + 9) / 3)


def test_the_page_has_a_place_for_the_table(repository: Path) -> None:
    text = (repository / "docs" / "pi-quant.md").read_text(encoding="utf-8")
    assert text.count(f"<!-- {MARKER}: begin -->") == text.count(f"<!-- {MARKER}: end -->") == 1
