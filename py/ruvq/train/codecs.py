"""The formats that files hold, as training sees them: codes, headers, and what they decode to.

`search` is the encoder that writes files: the C core on a CPU, the same search in torch on other devices.
`assign` finds codes under headers that are kept. Matrices are (rows, width) float32, codes (rows, width)
uint8, headers (rows, blocks, 2) uint8 as in the file.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import cache

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from ..quantize import QuantizedTensor, dequantize, quantize
from ..quantize.tensors import DEFAULT_K
from . import trellis, trellis_tables
from .config import BITS, TRELLIS
from .packing import block_of, blocks_of, group_of, pack, unpack
from .ste import RoundTo


def on_host(weights: Tensor) -> bool:
    """Whether the core can work on a tensor where it is."""
    return weights.device.type == "cpu"


class Codec(ABC):
    """One format at one width."""

    def __init__(self, format: str, width: int, k: int | None) -> None:
        self.format, self.width, self.bits = format, width, BITS[format]
        self.k = k or DEFAULT_K.get(format)
        self.asked_k = k
        self.blocks = blocks_of(width)
        self.place = torch.from_numpy(self._places())

    @abstractmethod
    def _places(self) -> np.ndarray:
        """(width,) int64: which of a row's steps belongs to each weight."""

    @abstractmethod
    def levels(self, codes: Tensor) -> Tensor:
        """What the codes stand for, in steps."""

    @abstractmethod
    def alpha(self, headers: Tensor) -> Tensor:
        """(rows, blocks) float32, at least 0."""

    @abstractmethod
    def with_alpha(self, headers: Tensor, alpha: Tensor) -> Tensor:
        """Headers with the nearest alphas that a file holds; blocks of alpha 0 stay so."""

    @abstractmethod
    def steps(self, headers: Tensor, alpha: Tensor) -> Tensor:
        """(rows, steps of a row) float32: what the headers' steps are with these alphas."""

    @abstractmethod
    def inside(self, weights: Tensor, step: Tensor) -> Tensor:
        """Whether weights lie within what the format reaches."""

    @abstractmethod
    def assign(self, weights: Tensor, headers: Tensor) -> Tensor:
        """The codes under given headers."""

    def values(self, codes: Tensor, headers: Tensor) -> Tensor:
        """What codes and headers decode to: (rows, width) float32."""
        return self.levels(codes) * self.spread(self.steps(headers, self.alpha(headers)))

    @property
    def highest(self) -> float:
        """The largest level, for LSQ's scale."""
        return float(2 ** (self.bits - 1) - 1) or 1.0

    @property
    def search_is_cheap(self) -> bool:
        """Whether on a CPU the core's search takes less time than `assign` in torch."""
        return False

    def spread(self, steps: Tensor) -> Tensor:
        """(rows, steps of a row) to (rows, width): the step of each weight."""
        return steps.index_select(1, self.place.to(steps.device))

    def search(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Codes and headers as the encoder of files chooses them."""
        host = np.ascontiguousarray(weights.detach().float().cpu().numpy())
        data = quantize(host, self.format, k=self.asked_k, threads=None).data
        codes, headers = unpack(data, host.shape[0], self.width, self.bits)
        device = weights.device
        return torch.from_numpy(codes).to(device), torch.from_numpy(headers).to(device)

    def decode(self, data: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Rows of bytes (uint8, on a CPU) to float32."""
        tensor = QuantizedTensor(self.format, shape, data.numpy().tobytes())
        return torch.from_numpy(dequantize(tensor, as_numpy=True))

    def pack(self, codes: Tensor, headers: Tensor) -> bytes:
        """The rows' bytes."""
        return pack(codes.cpu().numpy(), headers.cpu().numpy(), self.bits)


class GridCodec(Codec):
    """pi-q3, pi-q2, ternary, pi-ternary: level times an f16 step = ± alpha pi / k (ternary: alpha)."""

    def __init__(self, format: str, width: int, k: int | None) -> None:
        super().__init__(format, width, k)
        self.low = -1 if "ternary" in format else -(2 ** (self.bits - 1))
        self.high = 1 if "ternary" in format else 2 ** (self.bits - 1) - 1
        self._per_alpha = math.pi / self.k if self.k else 1.0

    def _places(self) -> np.ndarray:
        return block_of(self.width)

    def levels(self, codes: Tensor) -> Tensor:
        return codes.float() + self.low

    def _step(self, headers: Tensor) -> Tensor:
        return headers.contiguous().view(torch.float16)[..., 0].float()

    def alpha(self, headers: Tensor) -> Tensor:
        return (self._step(headers).abs().double() / self._per_alpha).float()

    def with_alpha(self, headers: Tensor, alpha: Tensor) -> Tensor:
        step = (alpha.double() * self._per_alpha).float().half()
        least = torch.finfo(torch.float16).smallest_normal
        step = step.clamp(least, torch.finfo(torch.float16).max)
        old = self._step(headers)
        step = torch.where(old == 0, 0, torch.where(old < 0, -step, step))
        return step[..., None].contiguous().view(torch.uint8)

    def steps(self, headers: Tensor, alpha: Tensor) -> Tensor:
        step = self._step(headers)
        if not alpha.requires_grad:
            return step
        return RoundTo.apply(alpha * self._per_alpha * step.sign(), step)

    def inside(self, weights: Tensor, step: Tensor) -> Tensor:
        a, b = (self.low - 0.5) * step, (self.high + 0.5) * step
        return (weights >= torch.minimum(a, b)) & (weights <= torch.maximum(a, b))

    def assign(self, weights: Tensor, headers: Tensor) -> Tensor:
        step = self.spread(self._step(headers))
        level = (weights * (1 / step)).clamp(self.low, self.high).round()
        return (torch.where(step == 0, 0, level) - self.low).to(torch.uint8)


class TrellisCodec(Codec):
    """The trellis: a level that depends on two codes or four, times alpha C[k] for each group of lanes."""

    def _places(self) -> np.ndarray:
        return block_of(self.width) * trellis.GROUPS + group_of(self.width)

    def _ks(self, headers: Tensor) -> Tensor:
        shifts = torch.tensor([0, 2, 4, 6], dtype=torch.uint8, device=headers.device)
        return headers[..., 1:] >> shifts & 3

    def _tables(self, like: Tensor) -> trellis_tables.Tables:
        return trellis_tables.tables_like(self.format, like)

    def levels(self, codes: Tensor) -> Tensor:
        parts = [codes[:, b.start : b.start + b.weights] for b in self.blocks]
        return torch.cat([trellis_tables.levels(part, self.format) for part in parts], 1)

    def alpha(self, headers: Tensor) -> Tensor:
        return self._tables(headers).alphas[headers[..., 0].long()]

    def with_alpha(self, headers: Tensor, alpha: Tensor) -> Tensor:
        byte = trellis_tables.nearest_alpha_bytes(alpha)
        byte = torch.where(headers[..., 0] == 0, 0, byte)
        return torch.stack((byte, headers[..., 1]), -1)

    def steps(self, headers: Tensor, alpha: Tensor) -> Tensor:
        scale = self._tables(headers).k_scale[self._ks(headers).long()]
        return (alpha[..., None] * scale).flatten(1)

    @property
    def highest(self) -> float:
        return trellis_tables.LARGEST

    @property
    def search_is_cheap(self) -> bool:
        return True

    def inside(self, weights: Tensor, step: Tensor) -> Tensor:
        return weights.abs() <= trellis_tables.LARGEST * step

    def assign(self, weights: Tensor, headers: Tensor) -> Tensor:
        ks = self._ks(headers)
        parts = []
        for number, rows in self._of_blocks(weights):
            first, last = number[0], number[-1] + 1
            alpha, k = headers[:, first:last, 0].reshape(-1), ks[:, first:last].reshape(-1, trellis.GROUPS)
            parts.append(trellis.assign(rows, alpha, k, self.format).reshape(weights.shape[0], -1))
        return torch.cat(parts, 1)

    def search(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        if on_host(weights):
            return super().search(weights)
        if not bool(torch.isfinite(weights).all()):
            raise DataError("weights are not finite", expected="finite weights", actual="NaN or infinity")
        headers = []
        for number, rows in self._of_blocks(weights):
            alpha, ks = trellis.search(rows, self.format, self.asked_k)
            byte = ks[:, 0] | ks[:, 1] << 2 | ks[:, 2] << 4 | ks[:, 3] << 6
            headers.append(torch.stack((alpha, byte), -1).reshape(weights.shape[0], len(number), 2))
        found = torch.cat(headers, 1)
        return self.assign(weights, found), found

    def _of_blocks(self, weights: Tensor) -> list[tuple[list[int], Tensor]]:
        """Blocks of equal length together: their numbers, and (rows * blocks, weights of a block)."""
        whole = [n for n, b in enumerate(self.blocks) if b.weights == 256]
        out = []
        if whole:
            out.append((whole, weights[:, : 256 * len(whole)].reshape(-1, 256)))
        if len(whole) < len(self.blocks):
            out.append(([len(whole)], weights[:, 256 * len(whole) :]))
        return out


@cache
def codec(format: str, width: int, k: int | None) -> Codec:
    """The codec of a format with bytes of its own."""
    return (TrellisCodec if format in TRELLIS else GridCodec)(format, width, k)
