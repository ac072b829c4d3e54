"""The dense rotation for small widths."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats import kernels, oracle
from ruvq import errors
from ruvq.formats.transform import MOST_ORTHOGONAL
from ruvq.quantize.plan import make_plan
from ruvq.sources import TensorInfo

WIDTHS = [1, 2, 3, 15, 16, 17, 64, 172, 255, 256]


def matrix(width: int, seed: int, inverse: bool = False) -> np.ndarray:
    """Q as a matrix, one unit vector at a time."""
    return kernels.orthogonal(np.eye(width, dtype=np.float32), seed, inverse).T.astype(np.float64)


@settings(max_examples=40, deadline=None)
@given(width=st.integers(1, MOST_ORTHOGONAL), seed=st.integers(0, 2**64 - 1))
def test_INV_4_q_times_its_transpose_is_the_identity(width, seed):
    q = matrix(width, seed)
    assert np.abs(q @ q.T - np.eye(width)).max() < 5e-6
    assert np.abs(matrix(width, seed, inverse=True) - q.T).max() < 5e-6


def test_the_rotation_is_the_oracles_bit_for_bit():
    rng = np.random.default_rng(kernels.SEED)
    for width in WIDTHS:
        seed = int(rng.integers(0, 2**63))
        x = rng.normal(size=width).astype(np.float32)
        for inverse in (False, True):
            found = kernels.orthogonal(x, seed, inverse)[0]
            assert found.tobytes() == oracle.orthogonal(x, seed, inverse).tobytes(), (width, inverse)


def test_no_direction_is_kept():
    """A rotation drawn uniformly has entries of about 1 / sqrt(n), everywhere: no axis stays an axis."""
    q = matrix(256, 7)
    assert np.abs(q).max() < 5.5 / 16
    assert np.std(q) == pytest.approx(1 / 16, rel=0.01)
    assert np.abs(np.mean(q, axis=0)).max() < 5 / 256
    assert not np.allclose(q, matrix(256, 8), atol=0.1)


@pytest.mark.parametrize("width", [257, 576])
def test_other_widths_are_refused(width):
    with pytest.raises(errors.UsageError) as caught:
        kernels.orthogonal(np.zeros((1, width), np.float32), 1)
    assert "1 to 256" in caught.value.expected


def test_the_plan_refuses_wide_matrices_by_name():
    wide = TensorInfo("blk.0.ffn_down.weight", (4, 512), "f32", lambda first, last: b"")
    with pytest.raises(errors.UsageError, match="too wide") as caught:
        make_plan([wide], "pi-t3", incoherence="orthogonal")
    assert "blk.0.ffn_down.weight: width 512" in caught.value.actual
    assert make_plan([wide], "f32", incoherence="orthogonal").method == ""
