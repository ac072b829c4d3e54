"""pi-t3 and pi-t2 in torch: decoding, and Viterbi searches over many blocks at once.

The same elementwise float32 operations as in wasm_kernels/formats/encode_trellis.c, in the same order, so
that codes and headers are those of the core, on a CPU and on a GPU. Blocks lie in the last dimension.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from .packing import GROUP_LANES, LANES

STATES, KS, GROUPS = 4, 4, 4
ALPHA_BYTE_MAX = 247
T3 = (-11, 26, -4, 3, -34, 43, 14, -20, 33, -27, -14, -48, 8, -4, 63, 20,
      -20, -63, 4, -8, 48, 14, 27, -33, 20, -14, -43, 34, -3, 4, -26, 11)  # fmt: skip
T2 = (9, 39, -14, -41, -21, -1, 26, 63, -63, -26, 1, 21, 41, 14, -39, -9)
C3 = ("0x1.1046b0p-4", "0x1.6b08ecp-5", "0x1.1046b0p-5", "0x1.b3a44ep-6")
C2 = ("0x1.b1d814p-5", "0x1.213ab8p-5", "0x1.b1d814p-6", "0x1.5b1342p-6")
_UNREACHABLE = float(2**100)
# where the search of alpha begins, in root mean squares of the block, and how far around the best it goes
_ALPHA_OF_RMS = {3: 1.3, 2: 1.4}
EFFORT = 4
_SEARCH_BYTES = 1 << 28  # of costs held at a time by `search`


@dataclass(frozen=True)
class Tables:
    """The tables of one of the two formats on one device."""

    bits: int
    values: Tensor  # (codes, 4 states before) float32
    k_scale: Tensor  # (4,) float32: pi u / k
    alphas: Tensor  # (248,) float32 by alpha byte


@cache
def tables(bits: int, device: str) -> Tables:
    """Tables of pi-t3 (3) or pi-t2 (2)."""
    values = torch.tensor(T3 if bits == 3 else T2, dtype=torch.float32, device=device)
    scale = torch.tensor([float.fromhex(c) for c in (C3 if bits == 3 else C2)], device=device)
    halves = (np.arange(ALPHA_BYTE_MAX + 1, dtype=np.uint16) << 7).view(np.float16).astype(np.float32)
    alphas = torch.from_numpy(halves * np.float32(2**-10)).to(device)
    return Tables(bits, values.reshape(-1, STATES), scale, alphas)


def tables_like(bits: int, like: Tensor) -> Tables:
    """Tables where `like` is."""
    return tables(bits, str(like.device))


def levels(codes: Tensor, bits: int) -> Tensor:
    """(rows, weights of a block) uint8 codes to the table's integers as float32."""
    table = tables_like(bits, codes).values
    wide = codes.long()
    before = torch.nn.functional.pad(wide[:, :-1], (1, 0))
    state = before >> 1 if bits == 3 else before
    return table.reshape(-1)[wide * STATES + state]


def nearest_alpha_bytes(alpha: Tensor) -> Tensor:
    """The alpha byte, 1 to 247, whose value is nearest to each alpha > 0; the lower on a tie."""
    alphas = tables_like(2, alpha).alphas
    above = torch.searchsorted(alphas, alpha.contiguous()).clamp(2, ALPHA_BYTE_MAX)
    nearer_below = alpha.double() - alphas[above - 1].double() <= alphas[above].double() - alpha.double()
    return torch.where(nearer_below, above - 1, above).to(torch.uint8)


def group_ends(weights: int) -> list[int]:
    """Where each of the four groups of a block ends."""
    steps = -(-weights // LANES)
    return [min(weights, (f + 1) * GROUP_LANES * steps) for f in range(GROUPS)]


def _middles(scale: Tensor, bits: int) -> tuple[Tensor, Tensor | None]:
    """(4 to, 4 from, *shape of scale): the mean of the two values of pi-t3 (the value of pi-t2), and half of
    their distance (pi-t3)."""
    table = tables_like(bits, scale).values
    if bits == 2:
        return table.reshape(STATES, STATES, *[1] * scale.dim()) * scale, None
    pairs = table.reshape(STATES, 2, STATES)
    low, high = (pairs[:, i].reshape(STATES, STATES, *[1] * scale.dim()) * scale for i in (0, 1))
    return (low + high) * 0.5, (low - high).abs() * 0.5


def _advance(cost: Tensor, x: Tensor, middle: Tensor, half: Tensor | None) -> tuple[Tensor, Tensor]:
    """One weight: costs (4, ...) to the costs after it, and the state that each came from, int64.

    Of equal costs torch's minimum takes the first, as the core does.
    """
    e = x - middle
    if half is not None:
        e = e.abs_().sub_(half)
    least = e.mul_(e).add_(cost).min(1)  # over (to, from, ...)
    return least.values, least.indices


def _start(shape: tuple[int, ...], like: Tensor) -> Tensor:
    cost = torch.full((STATES, *shape), _UNREACHABLE, device=like.device)
    cost[0] = 0
    return cost


def _lowest(cost: Tensor) -> Tensor:
    """Index of the least along the first dimension, the lower on a tie."""
    best, at = cost[0], torch.zeros(cost.shape[1:], dtype=torch.long, device=cost.device)
    for i in range(1, cost.shape[0]):
        less = cost[i] < best
        at = torch.where(less, i, at)
        best = torch.where(less, cost[i], best)
    return at


def _codes_of(states: Tensor, x: Tensor, scale: Tensor, bits: int) -> Tensor:
    """States (weights, B) along the cheapest way to codes: pi-t3 takes the nearer of two values."""
    if bits == 2:
        return states.to(torch.uint8)
    before = torch.cat((torch.zeros_like(states[:1]), states[:-1]))
    table = tables_like(bits, x).values
    e0 = x - table[states * 2, before] * scale
    e1 = x - table[states * 2 + 1, before] * scale
    return (states * 2 + (e1 * e1 < e0 * e0)).to(torch.uint8)


def assign(x: Tensor, alpha: Tensor, ks: Tensor, bits: int) -> Tensor:
    """The best codes of blocks under given headers.

    x: (B, weights) float32; alpha: (B,) uint8; ks: (B, 4) uint8, k - 2 of each group. Returns (B, weights)
    uint8; zeros where alpha is 0.
    """
    count, weights = x.shape
    t = tables_like(bits, x)
    d = t.alphas[alpha.long()] * t.k_scale[ks.long().T]  # (4 groups, B)
    columns = x.T.contiguous()
    cost, origins, begin = _start((count,), x), [], 0
    for f, end in enumerate(group_ends(weights)):
        middle, half = _middles(d[f], bits) if end > begin else (d, None)
        for i in range(begin, end):
            cost, origin = _advance(cost, columns[i], middle, half)
            origins.append(origin)
        begin = end
    state, states = _lowest(cost), []
    for origin in reversed(origins):
        states.append(state)
        state = origin.gather(0, state[None])[0]
    way = torch.stack(states[::-1])
    groups = torch.arange(weights, device=x.device) // -(-weights // LANES) // GROUP_LANES
    codes = _codes_of(way, columns, d[groups], bits)
    return codes.T * (alpha > 0)[:, None]


# ---- the search of alpha and k, as the core does it ----


def _energy(x: Tensor) -> Tensor:
    """Sum of squares of each row in the core's order."""
    total = torch.zeros(x.shape[0], device=x.device)
    for column in x.T:
        total = total + column * column
    return total


def _first_alpha(rms: Tensor, bits: int) -> Tensor:
    """The largest alpha byte whose alpha is at most what suits a Gaussian block; int64."""
    factor = torch.tensor(_ALPHA_OF_RMS[bits], dtype=torch.float32, device=rms.device)
    alphas = tables_like(bits, rms).alphas
    return (torch.searchsorted(alphas, rms * factor, right=True) - 1).clamp(1, ALPHA_BYTE_MAX)


def _k_scale(t: Tables, k: int | None) -> Tensor:
    """pi u / k of every k, or of the one that is asked for."""
    return t.k_scale if k is None else t.k_scale[k - 2 : k - 1]


def _totals(x: Tensor, alpha: Tensor, bits: int, k: int | None) -> Tensor:
    """Least cost of each block for each of its alphas: x (B, weights), alpha (A, B) int64 → (A, B)."""
    t = tables_like(bits, x)
    scale = t.alphas[alpha] * _k_scale(t, k)[:, None, None]  # (k, A, B)
    middle, half = _middles(scale, bits)
    cost, begin = _start(tuple(scale.shape), x), 0
    columns = x.T.contiguous()
    for end in group_ends(x.shape[1]):
        for i in range(begin, end):
            e = columns[i] - middle
            if half is not None:
                e = e.abs_().sub_(half)
            cost = e.mul_(e).add_(cost).amin(1)
        if end > begin:
            cost = cost.amin(1, keepdim=True).expand(-1, len(scale), -1, -1)
        begin = end
    return cost[:, 0].amin(0)


def _best_alpha(x: Tensor, start: Tensor, least: Tensor, bits: int, k: int | None, effort: int) -> Tensor:
    """The core's search: outwards from `start` until `effort` bytes on either side of the best were tried.

    `least`: (B,) the cost of alpha byte 0. Totals are computed for windows of bytes; what is looked at,
    and in which order, is decided as the core does.
    """
    count = x.shape[0]
    best, best_at = least.clone(), start.clone()
    chosen = torch.zeros(count, dtype=torch.long, device=x.device)
    low, high = start.clone(), start - 1
    known: dict[int, Tensor] = {}  # offset from start: totals
    every = torch.arange(count, device=x.device)

    def totals_at(offsets: list[int]) -> None:
        alphas = torch.stack([(start + o).clamp(1, ALPHA_BYTE_MAX) for o in offsets])
        found = _totals(x, alphas, bits, k)
        known.update(zip(offsets, found, strict=True))

    totals_at(list(range(-2 * effort, 2 * effort + 1)))
    while True:
        up = (high < ALPHA_BYTE_MAX) & (high < best_at + effort)
        down = ~up & (low > 1) & (low > best_at - effort)
        if not bool((up | down).any()):
            return chosen
        at = torch.where(up, high + 1, low - 1)
        offset = torch.where(up | down, at - start, 0)
        bounds = int(offset.min()), int(offset.max())
        missing = [o for o in range(bounds[0], bounds[1] + 1) if o not in known]
        if missing:
            totals_at(missing)
        order = sorted(known)
        table = torch.stack([known[o] for o in order])
        total = table[offset - order[0], every]
        high, low = torch.where(up, at, high), torch.where(down, at, low)
        better = (up | down) & (total < best)
        best = torch.where(better, total, best)
        best_at, chosen = torch.where(better, at, best_at), torch.where(better, at, chosen)


def _best_ks(x: Tensor, alpha: Tensor, bits: int) -> Tensor:
    """k - 2 of each group along the cheapest way for the alphas (B,) int64: (B, 4) uint8."""
    count, weights = x.shape
    t = tables_like(bits, x)
    scale = t.alphas[alpha] * t.k_scale[:, None]  # (k, B)
    middle, half = _middles(scale, bits)
    cost, begin = _start((KS, count), x), 0
    entered: list[Tensor] = []  # state at the group's beginning, by (state at its end, k): (4, KS, B)
    picked: list[Tensor] = []  # k of each state at the group's end: (4, B)
    columns = x.T.contiguous()
    for end in group_ends(weights):
        origin_of_group = torch.arange(STATES, device=x.device)[:, None, None].expand(STATES, KS, count)
        for i in range(begin, end):
            cost, origin = _advance(cost, columns[i], middle, half)
            origin_of_group = origin_of_group.gather(0, origin)
        k = _lowest(cost.transpose(0, 1))
        if end > begin:
            cost = cost.gather(1, k[:, None]).expand(-1, KS, -1)
        entered.append(origin_of_group)
        picked.append(k)
        begin = end
    state = _lowest(cost[:, 0])
    every, out = torch.arange(count, device=x.device), []
    for f in reversed(range(GROUPS)):
        k = picked[f][state, every]
        out.append(k)
        state = entered[f][state, k, every]
    return torch.where(_filled(x), torch.stack(out[::-1], 1), 0).to(torch.uint8)


def _filled(x: Tensor) -> Tensor:
    """(4,) bool: which groups of the blocks have weights; k = 2 stands for the others."""
    ends = group_ends(x.shape[1])
    return torch.tensor([e > b for b, e in zip([0, *ends], ends, strict=False)], device=x.device)


def search(x: Tensor, bits: int, k: int | None = None, effort: int = EFFORT) -> tuple[Tensor, Tensor]:
    """alpha (B,) and ks (B, 4), uint8, as the core's encoder finds them for blocks x (B, weights); with `k`
    that k in all groups."""
    held = STATES * STATES * KS * (4 * effort + 1) * 4
    alphas, ks = [], []
    for part in x.split(max(1, _SEARCH_BYTES // held)):
        energy = _energy(part)
        mean = energy / part.shape[1]
        start = _first_alpha(mean.sqrt(), bits)
        alpha = _best_alpha(part, start, energy, bits, k, effort)
        found = _best_ks(part, alpha.clamp(min=1), bits) if k is None else (k - 2) * _filled(part)
        alphas.append(alpha.to(torch.uint8))
        ks.append((found * (alpha > 0)[:, None]).to(torch.uint8))
    return torch.cat(alphas), torch.cat(ks)
