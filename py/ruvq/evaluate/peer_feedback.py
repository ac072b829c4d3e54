"""Q3_K and Q2_K with error feedback, which ggml's encoders don't have: the same preparation on both sides.

ggml finds the scales; then the codes are chosen again, column by column, as `rq_encode_feedback` does it:
with H = (U + I) D (U + I)^T the level nearest to w_j + sum of e_i U_ij over all columns i before j.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..quantize.tensors import QuantizedTensor, dequantize

if TYPE_CHECKING:
    import numpy as np

    from ..quantize.feedback import Factor


@dataclass(frozen=True)
class Codes:
    """A block's bytes, of which [`start`, `end`) are codes; how many `levels` there are, and which number the
    `lowest` stands for; `one`: the byte that makes all codes 1 (None: levels are multiples of the step)."""

    block: int
    start: int
    end: int
    levels: int
    lowest: int
    one: int | None


# Q3_K: 32 bytes of high bits, 64 of low bits, value D (code - 4). Q2_K: 16 of scales, 64 of codes, D code + M
CODES = {"q3_k": Codes(110, 0, 96, 8, -4, None), "q2_k": Codes(84, 16, 80, 4, 0, 0x55)}


def grid(coded: QuantizedTensor) -> tuple[np.ndarray, np.ndarray]:
    """Step and offset of every weight's levels: float32 of the tensor's shape twice. They come out of the
    decoder, for the same scales with other codes. UsageError for formats that aren't in CODES."""
    import numpy as np

    if coded.format not in CODES:
        raise UsageError(
            "no error feedback for this format",
            subject="format",
            expected=", ".join(CODES),
            actual=coded.format,
        )
    codes = CODES[coded.format]

    def decoded(byte: int) -> np.ndarray:
        data = np.frombuffer(coded.data, np.uint8).reshape(-1, codes.block).copy()
        data[:, codes.start : codes.end] = byte
        return dequantize(replace(coded, data=data.tobytes()), as_numpy=True)

    zero = decoded(0)
    if codes.one is None:
        return zero / np.float32(codes.lowest), np.zeros_like(zero)
    return decoded(codes.one) - zero, zero


def round_with_feedback(rows: np.ndarray, coded: QuantizedTensor, factor: Factor) -> np.ndarray:
    """Float32 (rows, width) rounded to the levels that `coded` has for them, errors fed back along each row.

    `coded`: the same weights, in rows of its own; `factor`: of the second moments of the input (width).
    """
    import numpy as np

    codes = CODES[coded.format]
    step, offset = (values.reshape(rows.shape).astype(np.float64) for values in grid(coded))
    lowest, highest = codes.lowest, codes.lowest + codes.levels - 1
    upper = np.triu(factor.factor.astype(np.float64), 1)
    errors = np.zeros(rows.shape)
    out = np.empty(rows.shape)
    for j in range(rows.shape[1]):
        aim = rows[:, j] + errors[:, :j] @ upper[:j, j]
        d = step[:, j]
        code = np.rint((aim - offset[:, j]) / np.where(d == 0, 1, d))
        out[:, j] = np.clip(code, lowest, highest) * d + offset[:, j]
        errors[:, j] = rows[:, j] - out[:, j]
    return out.astype(np.float32)
