"""Error feedback on the levels of ggml's formats: the levels themselves, the rule, and that it pays."""

from __future__ import annotations

import numpy as np
import pytest

from ruvq.errors import UsageError
from ruvq.evaluate.metrics import output_energy
from ruvq.evaluate.peer_feedback import CODES, grid, round_with_feedback
from ruvq.formats import get
from ruvq.quantize.feedback import factorise
from ruvq.quantize.tensors import QuantizedTensor, dequantize

D_AT = {"q3_k": [108], "q2_k": [80, 82]}  # where a block has its f16 numbers


def some_blocks(format: str, rows: int = 6) -> QuantizedTensor:
    """Random codes and scales, d and dmin of ordinary size."""
    random = np.random.default_rng(2)
    size = get(format).block_bytes
    data = random.integers(0, 256, (rows, size), np.uint8)
    for at in D_AT[format]:
        values = random.uniform(0.01, 0.02, rows).astype("<f2")
        data[:, at : at + 2] = values.view(np.uint8).reshape(rows, 2)
    return QuantizedTensor(format, (rows, 256), data.tobytes())


@pytest.mark.parametrize("format", CODES)
def test_every_weight_lies_on_one_of_its_levels(format: str) -> None:
    coded = some_blocks(format)
    step, offset = grid(coded)
    codes = CODES[format]
    numbers = (dequantize(coded, as_numpy=True) - offset) / np.where(step == 0, 1, step)
    np.testing.assert_allclose(numbers, np.rint(numbers), atol=1e-4)
    assert np.rint(numbers[step != 0]).min() == codes.lowest
    assert np.rint(numbers[step != 0]).max() == codes.lowest + codes.levels - 1


@pytest.mark.parametrize("format", CODES)
@pytest.mark.parametrize("width", [64, 256])
def test_codes_are_chosen_column_by_column_and_lower_the_products_error(format: str, width: int) -> None:
    coded = some_blocks(format)
    random = np.random.default_rng(4)
    scale = float(np.std(dequantize(coded, as_numpy=True)))
    rows = random.normal(0, scale, (6 * 256 // width, width)).astype(np.float32)
    x = random.normal(size=(500, width)) @ random.normal(size=(width, width))
    moment = (x.T @ x).astype(np.float32)
    factor = factorise(moment, None, 0.01, "x")
    found = round_with_feedback(rows, coded, factor)
    step, offset = (v.reshape(rows.shape).astype(float) for v in grid(coded))
    codes = CODES[format]

    def nearest(value: float, row: int, column: int) -> float:
        numbers = np.arange(codes.lowest, codes.lowest + codes.levels)
        levels = (step[row, column] * numbers + offset[row, column]).tolist()
        return min(levels, key=lambda level: abs(level - value))

    upper = np.triu(factor.factor.astype(float), 1)
    for row in (0, len(rows) - 1):
        errors = np.zeros(width)
        for j in range(width):
            aim = rows[row, j] + errors[:j] @ upper[:j, j]
            assert found[row, j] == pytest.approx(nearest(aim, row, j), abs=1e-6)
            errors[j] = rows[row, j] - found[row, j]
    plain = np.array(
        [[nearest(v, i, j) for j, v in enumerate(row)] for i, row in enumerate(rows)], np.float32
    )
    assert output_energy(rows - found, moment) < output_energy(rows - plain, moment)


def test_other_formats_have_none() -> None:
    with pytest.raises(UsageError, match="no error feedback"):
        grid(QuantizedTensor("q8_0", (1, 32), bytes(34)))
