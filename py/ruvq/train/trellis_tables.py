"""The trellis formats in torch: their tables, their states, and decoding.

What docs/formats.md says of pi-t3, pi-t2, pi-x3 and pi-x2, in the form that a Viterbi search needs: which
states lead to which, and the value of each way. Blocks of codes are (rows, weights) uint8.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from .config import BITS, MIXED, TRELLIS

KS = 4  # values of k, 2 to 5
ALPHA_BYTE_MAX = 247
# of two codes
_T3 = (-11, 26, -4, 3, -34, 43, 14, -20, 33, -27, -14, -48, 8, -4, 63, 20,
       -20, -63, 4, -8, 48, 14, 27, -33, 20, -14, -43, 34, -3, 4, -26, 11)  # fmt: skip
_T2 = (9, 39, -14, -41, -21, -1, 26, 63, -63, -26, 1, 21, 41, 14, -39, -9)
# A and then B, of four codes
_X3 = (-28, 18, -6, -14, -10, -12, 4, -2, 2, -4, 12, 10, 14, 6, -18, 28,
       22, -26, 2, -16, 11, -35, -8, 3, -3, 8, 35, -11, 16, -2, 26, -22)  # fmt: skip
_X2 = (4, -4, 6, -1, 11, -8, 7, -3, 3, -7, 8, -11, 1, -6, 4, -4,
       10, -7, 31, -28, -23, 13, -5, 52, -52, 5, -13, 23, 28, -31, 7, -10)  # fmt: skip
_TABLES = {"pi-t3": _T3, "pi-t2": _T2, "pi-x3": _X3, "pi-x2": _X2}
LARGEST = 63.0  # magnitude in any of them
_C = {
    "pi-t3": ("0x1.1046b0p-4", "0x1.6b08ecp-5", "0x1.1046b0p-5", "0x1.b3a44ep-6"),
    "pi-t2": ("0x1.b1d814p-5", "0x1.213ab8p-5", "0x1.b1d814p-6", "0x1.5b1342p-6"),
    "pi-x3": ("0x1.4bb9ecp-4", "0x1.ba4d3ap-5", "0x1.4bb9ecp-5", "0x1.09618ap-5"),
    "pi-x2": ("0x1.0b7f30p-4", "0x1.64a994p-5", "0x1.0b7f30p-5", "0x1.abfeb2p-6"),
}


@dataclass(frozen=True)
class Tables:
    """One format on one device. A state is code * groups + group, the code of pi-t3 without its lowest bit;
    all states of a group are entered from the same states, one for each way; where there is one group, ways
    are numbered as those states. Both codes of pi-t3 that lead to a state have the same ways: `pairs`."""

    format: str
    integers: Tensor  # float32: the format's table, or its two
    values: Tensor  # (codes, groups, ways) float32: of each code on each way
    origins: Tensor  # (groups, ways) int64: the state that a way comes from
    k_scale: Tensor  # (4,) float32: pi u / k
    alphas: Tensor  # (248,) float32 by alpha byte

    @property
    def pairs(self) -> bool:
        """Whether two codes lead to each state."""
        return self.format == "pi-t3"

    @property
    def groups(self) -> int:
        """Of states that are entered from the same ones."""
        return self.values.shape[1]

    @property
    def states(self) -> int:
        """How many there are."""
        return self.values[..., 0].numel() // (2 if self.pairs else 1)

    def entered(self, cost: Tensor) -> Tensor:
        """(states, ...) to (groups, ways, ...): the costs that each group is entered with."""
        if self.groups == 1:
            return cost[None]
        return cost.index_select(0, self.origins.flatten()).unflatten(0, tuple(self.origins.shape))

    def before(self, state: Tensor, way: Tensor) -> Tensor:
        """The states that a way (int64) into these states comes from; int64."""
        if self.groups == 1:
            return way
        return self.origins.flatten()[state % self.groups * self.origins.shape[1] + way]


@cache
def tables(format: str, device: str) -> Tables:
    """Of a trellis format."""
    integers = torch.tensor(_TABLES[format], dtype=torch.float32, device=device)
    halves = (np.arange(ALPHA_BYTE_MAX + 1, dtype=np.uint16) << 7).view(np.float16).astype(np.float32)
    code = torch.arange(2 ** BITS[format], device=device)[:, None, None]
    before, origins = _ways(format, device)
    return Tables(
        format,
        integers,
        values=integer_of(integers, format, code, before),
        origins=origins,
        k_scale=torch.tensor([float.fromhex(c) for c in _C[format]], device=device),
        alphas=torch.from_numpy(halves * np.float32(2**-10)).to(device),
    )


def tables_like(format: str, like: Tensor) -> Tables:
    """Tables where `like` is."""
    return tables(format, str(like.device))


def _ways(format: str, device: str) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """By (group, way): the codes before, the newest first, and the state come from."""
    group = torch.arange(16 if format in MIXED else 1, device=device)[:, None]
    way = torch.arange(8 if format == "pi-x3" else 4, device=device)
    none = torch.zeros_like(group + way)
    if format == "pi-t2":
        return (none + way, none, none), none + way
    if format == "pi-t3":  # the lowest bit of a code doesn't count afterwards
        return (none + (way << 1), none, none), none + way
    if format == "pi-x2":
        return (none + (group >> 2), none + (group & 3), none + way), group << 2 | way
    one, bit, upper, oldest = group >> 1, group & 1, way & 3, way >> 2
    origins = one << 4 | upper << 2 | bit << 1 | oldest
    return (none + one, upper << 1 | bit, none + oldest), origins


def integer_of(integers: Tensor, format: str, code: Tensor, before: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """What a code stands for after the three before it, the newest of them first: float32."""
    one, two, three = before
    if format == "pi-t2":
        return integers[code << 2 | one]
    if format == "pi-t3":
        return integers[code << 2 | one >> 1]
    if format == "pi-x2":
        return integers[code << 2 | one] + integers[16 + ((one ^ two) << 2 | code ^ three)]
    low = (three & 1) << 3 | (two & 1) << 2 | (one & 1) << 1 | code & 1
    upper = one >> 1 << 2
    return integers[code >> 1 << 2 | one >> 1] + integers[16 + (low ^ (upper | two >> 1))]


def levels(codes: Tensor, format: str) -> Tensor:
    """(rows, weights of a block) uint8 codes to the table's integers as float32."""
    wide, weights = codes.long(), codes.shape[1]
    one, two, three = (torch.nn.functional.pad(wide, (n, 0))[:, :weights] for n in (1, 2, 3))
    return integer_of(tables_like(format, codes).integers, format, wide, (one, two, three))


def nearest_alpha_bytes(alpha: Tensor) -> Tensor:
    """The alpha byte, 1 to 247, whose value is nearest to each alpha > 0; the lower on a tie."""
    alphas = tables_like(TRELLIS[0], alpha).alphas  # the same in every format
    above = torch.searchsorted(alphas, alpha.contiguous()).clamp(2, ALPHA_BYTE_MAX)
    nearer_below = alpha.double() - alphas[above - 1].double() <= alphas[above].double() - alpha.double()
    return torch.where(nearer_below, above - 1, above).to(torch.uint8)
