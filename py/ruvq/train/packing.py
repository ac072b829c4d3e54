"""Codes and headers of ruvq's own formats to rows of bytes and back (docs/formats.md), with NumPy.

The encoders of the core choose codes; here they are only laid out, so that the codes that were trained are
the codes in the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

BLOCK, LANES, GROUP_LANES = 256, 16, 4


@dataclass(frozen=True)
class Block:
    """One block of a row: its first column and number of weights."""

    start: int
    weights: int

    @property
    def steps(self) -> int:
        """Weights of a lane."""
        return -(-self.weights // LANES)

    def nbytes(self, bits: int) -> int:
        """Bytes with the header."""
        left = self.steps % 8
        plane1 = self.steps // 8 * 16 + (0 if left == 0 else 8 if left <= 4 else 16)
        return 16 * -(-self.steps // 4) + (plane1 if bits == 3 else 0) + 2


@cache
def blocks_of(width: int) -> tuple[Block, ...]:
    """The blocks of a row: full ones, then the tail."""
    return tuple(Block(start, min(BLOCK, width - start)) for start in range(0, width, BLOCK))


@cache
def group_of(width: int) -> np.ndarray:
    """(width,) int64: the group of four lanes, 0 to 3, that each weight of its block belongs to."""
    parts = [np.arange(b.weights) // b.steps // GROUP_LANES for b in blocks_of(width)]
    return np.concatenate(parts)


@cache
def block_of(width: int) -> np.ndarray:
    """(width,) int64: the block that each weight belongs to."""
    return np.arange(width) // BLOCK


def _bits(values: np.ndarray, bits: int) -> np.ndarray:
    """(..., n) codes of `bits` bits to (...,) bytes, the first lowest."""
    places = np.arange(values.shape[-1], dtype=np.uint16) * bits
    return (values.astype(np.uint16) << places).sum(-1).astype(np.uint8)


def _fields(data: np.ndarray, count: int, bits: int) -> np.ndarray:
    """(...,) bytes to (..., count) codes."""
    return data[..., None] >> (np.arange(count, dtype=np.uint8) * bits) & ((1 << bits) - 1)


def _padded(lanes: np.ndarray, multiple: int) -> np.ndarray:
    missing = -lanes.shape[-1] % multiple
    return np.pad(lanes, ((0, 0), (0, 0), (0, missing))) if missing else lanes


def _pack_block(codes: np.ndarray, block: Block, bits: int) -> list[np.ndarray]:
    """The planes of (rows, weights) codes, each (rows, bytes)."""
    rows, steps = codes.shape[0], block.steps
    room = np.zeros((rows, LANES * steps), np.uint8)
    room[:, : block.weights] = codes
    lanes = room.reshape(rows, LANES, steps)
    high = _padded(lanes >> (bits - 2), 4)
    planes = [_bits(high.reshape(rows, LANES, -1, 4), 2).transpose(0, 2, 1).reshape(rows, -1)]
    if bits == 2:
        return planes
    low, full = lanes & 1, steps // 8
    if full:
        whole = _bits(low[:, :, : 8 * full].reshape(rows, LANES, full, 8), 1)
        planes.append(whole.transpose(0, 2, 1).reshape(rows, -1))
    if steps % 8:
        rest = _bits(low[:, :, 8 * full :], 1)
        planes.append(rest[:, :8] | rest[:, 8:] << 4 if steps % 8 <= 4 else rest)
    return planes


def pack(codes: np.ndarray, headers: np.ndarray, bits: int) -> bytes:
    """codes (rows, width) and headers (rows, blocks, 2), both uint8, to the rows' bytes."""
    parts = []
    for number, block in enumerate(blocks_of(codes.shape[1])):
        inside = codes[:, block.start : block.start + block.weights]
        parts += [*_pack_block(inside, block, bits), headers[:, number]]
    return np.ascontiguousarray(np.concatenate(parts, 1)).tobytes()


def _unpack_block(data: np.ndarray, block: Block, bits: int) -> np.ndarray:
    rows, steps = data.shape[0], block.steps
    groups = -(-steps // 4)
    high = _fields(data[:, : 16 * groups].reshape(rows, groups, LANES), 4, 2)
    lanes = high.transpose(0, 2, 1, 3).reshape(rows, LANES, 4 * groups)[:, :, :steps]
    if bits == 3:
        plane, full = data[:, 16 * groups :], steps // 8
        low = [
            _fields(plane[:, : 16 * full].reshape(rows, full, LANES), 8, 1)
            .transpose(0, 2, 1, 3)
            .reshape(rows, LANES, 8 * full)
        ]
        rest = plane[:, 16 * full :]
        if 0 < steps % 8 <= 4:
            low.append(_fields(np.concatenate((rest[:, :8] & 15, rest[:, :8] >> 4), 1), steps % 8, 1))
        elif steps % 8:
            low.append(_fields(rest[:, :LANES], steps % 8, 1))
        lanes = lanes << 1 | np.concatenate(low, 2)
    return lanes.reshape(rows, -1)[:, : block.weights]


def unpack(data: bytes, rows: int, width: int, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of `pack`: codes (rows, width), headers (rows, blocks, 2)."""
    table = np.frombuffer(data, np.uint8).reshape(rows, -1)
    codes, headers, at = [], [], 0
    for block in blocks_of(width):
        end = at + block.nbytes(bits)
        codes.append(_unpack_block(table[:, at : end - 2], block, bits))
        headers.append(table[:, end - 2 : end])
        at = end
    return np.concatenate(codes, 1), np.stack(headers, 1)
