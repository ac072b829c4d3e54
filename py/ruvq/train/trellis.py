"""Viterbi searches for the trellis formats in torch, over many blocks at once.

The same elementwise float32 operations as in wasm_kernels/formats/encode_trellis.c and encode_mixed.c, in the
same order, so that codes and headers are those of the core, on a CPU and on a GPU. Blocks lie in the last
dimension, states (trellis_tables.py) in the first.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .config import BITS, MIXED
from .packing import BLOCK, GROUP_LANES, LANES
from .trellis_tables import ALPHA_BYTE_MAX, KS, Tables, tables_like

GROUPS = 4  # of lanes, each with a k of its own
_UNREACHABLE = float(2**100)
# where the search of alpha begins, in root mean squares of the block, and how far around the best it goes
_ALPHA_OF_RMS = {3: 1.3, 2: 1.4}
EFFORT, MIXED_EFFORT = 4, 1
_BYTES = 1 << 28  # held at a time: costs by `search`, ways by `assign`


def group_ends(weights: int) -> list[int]:
    """Where each of the four groups of a block ends."""
    steps = -(-weights // LANES)
    return [min(weights, (f + 1) * GROUP_LANES * steps) for f in range(GROUPS)]


def _middles(scale: Tensor, t: Tables) -> tuple[Tensor, Tensor | None]:
    """(codes, groups, ways, *shape of scale): the value of each way; of pi-t3 (pairs of codes, ...) the mean
    of two values, and half of their distance."""
    values = t.values.reshape(*t.values.shape, *[1] * scale.dim())
    if not t.pairs:
        return values * scale, None
    low, high = values[0::2] * scale, values[1::2] * scale
    return (low + high) * 0.5, (low - high).abs() * 0.5


def _totals_of(cost: Tensor, x: Tensor, middle: Tensor, half: Tensor | None, t: Tables) -> Tensor:
    """One weight: costs (states, ...) to those of all ways into all states, (codes, groups, ways, ...)."""
    e = x - middle
    if half is not None:
        e = e.abs_().sub_(half)
    return e.mul_(e).add_(t.entered(cost))


def _advance(
    cost: Tensor, x: Tensor, middle: Tensor, half: Tensor | None, t: Tables
) -> tuple[Tensor, Tensor]:
    """One weight: costs (states, ...) to the costs after it, and the way into each, int64.

    Of equal costs torch's minimum takes the first, as the core does.
    """
    least = _totals_of(cost, x, middle, half, t).min(2)
    return least.values.flatten(0, 1), least.indices.flatten(0, 1)


def _start(shape: tuple[int, ...], like: Tensor, t: Tables) -> Tensor:
    cost = torch.full((t.states, *shape), _UNREACHABLE, device=like.device)
    cost[0] = 0
    return cost


def _lowest(cost: Tensor) -> Tensor:
    """Index of the least along the first dimension, the lower on a tie."""
    return cost.min(0).indices


def _codes_of(states: Tensor, x: Tensor, scale: Tensor, t: Tables) -> Tensor:
    """States (weights, B) along the cheapest way to codes: pi-t3 takes the nearer of two values."""
    if not t.pairs:
        return (states // t.groups).to(torch.uint8)
    before = torch.cat((torch.zeros_like(states[:1]), states[:-1]))
    e0 = x - t.values[states * 2, 0, before] * scale
    e1 = x - t.values[states * 2 + 1, 0, before] * scale
    return (states * 2 + (e1 * e1 < e0 * e0)).to(torch.uint8)


def assign(x: Tensor, alpha: Tensor, ks: Tensor, format: str) -> Tensor:
    """The best codes of blocks under given headers.

    x: (B, weights) float32; alpha: (B,) uint8; ks: (B, 4) uint8, k - 2 of each group. Returns (B, weights)
    uint8; zeros where alpha is 0.
    """
    t = tables_like(format, x)
    most = max(1, _BYTES // (t.states * x.shape[1]))
    parts = zip(x.split(most), alpha.split(most), ks.split(most), strict=True)
    return torch.cat([_assign(*part, t) for part in parts])


def _assign(x: Tensor, alpha: Tensor, ks: Tensor, t: Tables) -> Tensor:
    count, weights = x.shape
    d = t.alphas[alpha.long()] * t.k_scale[ks.long().T]  # (4 groups, B)
    columns = x.T.contiguous()
    cost, begin = _start((count,), x, t), 0
    ways: list[Tensor] = []  # into each state: (states, B) uint8
    for f, end in enumerate(group_ends(weights)):
        middle, half = _middles(d[f], t) if end > begin else (d, None)
        for i in range(begin, end):
            cost, way = _advance(cost, columns[i], middle, half, t)
            ways.append(way.to(torch.uint8))
        begin = end
    state, states = _lowest(cost), []
    for way in reversed(ways):
        states.append(state)
        state = t.before(state, way.gather(0, state[None])[0].long())
    groups = torch.arange(weights, device=x.device) // -(-weights // LANES) // GROUP_LANES
    codes = _codes_of(torch.stack(states[::-1]), columns, d[groups], t)
    return codes.T * (alpha > 0)[:, None]


# ---- the search of alpha and k, as the core does it ----


def _energy(x: Tensor) -> Tensor:
    """Sum of squares of each row in the core's order."""
    total = torch.zeros(x.shape[0], device=x.device)
    for column in x.T:
        total = total + column * column
    return total


def _first_alpha(rms: Tensor, t: Tables) -> Tensor:
    """The largest alpha byte whose alpha is at most what suits a Gaussian block; int64."""
    factor = torch.tensor(_ALPHA_OF_RMS[BITS[t.format]], dtype=torch.float32, device=rms.device)
    return (torch.searchsorted(t.alphas, rms * factor, right=True) - 1).clamp(1, ALPHA_BYTE_MAX)


def _k_scale(t: Tables, k: int | None) -> Tensor:
    """pi u / k of every k, or of the one that is asked for."""
    return t.k_scale if k is None else t.k_scale[k - 2 : k - 1]


def _totals(x: Tensor, alpha: Tensor, t: Tables, k: int | None) -> Tensor:
    """Least cost of each block for each of its alphas: x (B, weights), alpha (A, B) int64 → (A, B)."""
    scale = t.alphas[alpha] * _k_scale(t, k)[:, None, None]  # (k, A, B)
    middle, half = _middles(scale, t)
    cost, begin = _start(tuple(scale.shape), x, t), 0
    columns = x.T.contiguous()
    for end in group_ends(x.shape[1]):
        for i in range(begin, end):
            cost = _totals_of(cost, columns[i], middle, half, t).amin(2).flatten(0, 1)
        if end > begin:
            cost = cost.amin(1, keepdim=True).expand(-1, len(scale), -1, -1)
        begin = end
    return cost[:, 0].amin(0)


def _best_alpha(x: Tensor, start: Tensor, least: Tensor, t: Tables, k: int | None, effort: int) -> Tensor:
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
        found = _totals(x, alphas, t, k)
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


def _best_ks(x: Tensor, alpha: Tensor, t: Tables) -> Tensor:
    """k - 2 of each group along the cheapest way for the alphas (B,) int64: (B, 4) uint8."""
    count, weights = x.shape
    scale = t.alphas[alpha] * t.k_scale[:, None]  # (k, B)
    middle, half = _middles(scale, t)
    cost, begin = _start((KS, count), x, t), 0
    entered: list[Tensor] = []  # state at the group's beginning, by (state at its end, k): (states, KS, B)
    picked: list[Tensor] = []  # k of each state at the group's end: (states, B)
    every_state = torch.arange(t.states, device=x.device)[:, None, None]
    columns = x.T.contiguous()
    for end in group_ends(weights):
        origin = every_state.expand(t.states, KS, count)
        for i in range(begin, end):
            cost, way = _advance(cost, columns[i], middle, half, t)
            origin = origin.gather(0, t.before(every_state, way))
        k = _lowest(cost.transpose(0, 1))
        if end > begin:
            cost = cost.gather(1, k[:, None]).expand(-1, KS, -1)
        entered.append(origin)
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


def effort_of(format: str, weights: int) -> int:
    """The core's, where none is asked for: few weights share the scales of a tail."""
    return MIXED_EFFORT if format in MIXED and weights == BLOCK else EFFORT


def search(x: Tensor, format: str, k: int | None = None) -> tuple[Tensor, Tensor]:
    """alpha (B,) and ks (B, 4), uint8, as the core's encoder finds them for blocks x (B, weights); with `k`
    that k in all groups."""
    t, effort = tables_like(format, x), effort_of(format, x.shape[1])
    held = t.states * t.origins.shape[1] * KS * (4 * effort + 1) * 4
    alphas, ks = [], []
    for part in x.split(max(1, _BYTES // held)):
        energy = _energy(part)
        mean = energy / part.shape[1]
        start = _first_alpha(mean.sqrt(), t)
        alpha = _best_alpha(part, start, energy, t, k, effort)
        found = _best_ks(part, alpha.clamp(min=1), t) if k is None else (k - 2) * _filled(part)
        alphas.append(alpha.to(torch.uint8))
        ks.append((found * (alpha > 0)[:, None]).to(torch.uint8))
    return torch.cat(alphas), torch.cat(ks)
