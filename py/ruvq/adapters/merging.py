"""Several LoRA adapters into one, by PEFT's methods (`add_weighted_adapter`), in NumPy, and by slerp.

With w the weights, s = alpha / rank, and D = s B A what an adapter adds to a matrix:

    cat      exactly sum w D: A's and B's side by side, the ranks add up
    svd      the best approximation of sum w D at a rank
    linear   sums of sqrt(w s) A and of sqrt(w s) B: rough, cheap, at the same rank
    ties     the largest part (`density`) of each, then only values of the sign that prevails
             (arXiv:2306.01708), averaged
    dare_linear, dare_ties   a random part, divided by its share (arXiv:2311.03099); then as linear or ties
    magnitude_prune          the largest part of each, then as linear
    ..._svd  the same on D instead of A and B, back to a rank by SVD
    slerp    two adapters: D on the arc from one to the other instead of the chord, the ranks add up
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import UsageError
from .lora import Lora, Matrix, Pair

_ON_FACTORS = ("linear", "ties", "dare_linear", "dare_ties", "magnitude_prune")
_ON_PRODUCTS = ("ties_svd", "dare_linear_svd", "dare_ties_svd", "magnitude_prune_svd")
METHODS = ("cat", "svd", *_ON_FACTORS, *_ON_PRODUCTS, "slerp")
MAJORITIES = ("total", "frequency")


@dataclass(frozen=True)
class _How:
    method: str
    density: float
    rank: int | None
    majority: str
    random: np.random.Generator


def merge(
    loras: Sequence[Lora],
    method: str,
    weights: Sequence[float] | None = None,
    *,
    density: float = 1.0,
    rank: int | None = None,
    majority: str = "total",
    seed: int = 0,
) -> Lora:
    """One adapter from several of the same base.

    `weights`: one each (default: equal, adding up to 1); slerp goes from the first to the second by the share
    of the second. `density`: what part of the values stays, for ties, dare and magnitude_prune. `rank`: of
    svd (default: the largest of the adapters). `majority`: the sign that prevails by "total" or "frequency".
    `seed`: of dare. A matrix that not all adapters have is merged from those that have it. UsageError."""
    weights = list(weights) if weights is not None else [1 / max(len(loras), 1)] * len(loras)
    _check(loras, method, weights, density, rank, majority)
    how = _How(method, density, rank or max(p.rank for lora in loras for p in lora.pairs.values()), majority,
               np.random.default_rng(seed))  # fmt: skip
    names = list(dict.fromkeys(name for lora in loras for name in lora.pairs))
    pairs = {}
    for name in names:
        there = [(lora.pairs[name], w) for lora, w in zip(loras, weights, strict=True) if name in lora.pairs]
        pairs[name] = _merged(name, [p for p, _ in there], [w for _, w in there], how)
    return Lora(pairs, loras[0].architecture, loras[0].base)


def _check(
    loras: Sequence[Lora], method: str, weights: list[float], density: float, rank: int | None, majority: str
) -> None:
    def refuse(what: str, subject: str, expected: str, actual: object) -> None:
        raise UsageError(what, subject=subject, expected=expected, actual=str(actual))

    if method not in METHODS:
        refuse("unknown way of merging", "method", ", ".join(METHODS), method)
    if len(loras) < 2 or (method == "slerp" and len(loras) != 2):
        refuse("not so many adapters", method, "two" if method == "slerp" else "two or more", len(loras))
    if len(weights) != len(loras) or not all(math.isfinite(w) for w in weights):
        refuse("a weight for each adapter", "weights", f"{len(loras)} finite numbers", weights)
    if len({lora.architecture for lora in loras}) != 1:
        refuse("adapters of one kind", "adapters", "all in PEFT's format, or all in GGUF of one architecture",
               [lora.architecture or "PEFT" for lora in loras])  # fmt: skip
    if not 0 < density <= 1:
        refuse("a part of the values", "density", "above 0, at most 1", density)
    if rank is not None and rank < 1:
        refuse("not a rank", "rank", "1 or more", rank)
    if majority not in MAJORITIES:
        refuse("unknown way to find the sign", "majority", " or ".join(MAJORITIES), majority)
    if method == "slerp" and (min(weights) < 0 or sum(weights) <= 0):
        refuse("slerp goes from one adapter to the other", "weights", "0 or more, not both 0", weights)


def _merged(name: str, pairs: list[Pair], weights: list[float], how: _How) -> Pair:
    if len({(len(p.b), p.a.shape[1]) for p in pairs}) != 1:
        raise UsageError(
            "adapters of different bases", subject=name, expected="equal shapes",
            actual=", ".join(str((len(p.b), p.a.shape[1])) for p in pairs),
        )  # fmt: skip
    if how.method == "slerp" and len(pairs) == 2:
        weights = _slerp_weights(pairs, weights)
    if how.method in ("cat", "slerp"):
        return _side_by_side(pairs, weights)
    if how.method == "svd":
        return _truncated_pair(_side_by_side(pairs, weights), how)
    if how.method in _ON_PRODUCTS:
        combine = _combination(how)
        return _truncated(combine([p.delta() for p in pairs], np.array(weights, np.float32)), how)
    if len({p.rank for p in pairs}) != 1:
        raise UsageError(
            "this method needs adapters of one rank", subject=name, expected="equal ranks",
            actual=", ".join(str(p.rank) for p in pairs), hint=f"use cat, svd or {how.method}_svd",
        )  # fmt: skip
    combine, scaled = _combination(how), [w * p.scale for p, w in zip(pairs, weights, strict=True)]
    roots = np.sqrt(np.abs(scaled)).astype(np.float32)
    signs = np.where(np.array(scaled) < 0, -1, 1).astype(np.float32)  # one of the two factors carries it
    return Pair(combine([p.a for p in pairs], roots * signs), combine([p.b for p in pairs], roots), 1.0)


# ---- exact sums ----


def _side_by_side(pairs: list[Pair], weights: list[float]) -> Pair:
    a = np.concatenate([p.a * np.float32(p.scale * w) for p, w in zip(pairs, weights, strict=True)])
    b = np.concatenate([p.b for p in pairs], axis=1)
    if len(a) > min(a.shape[1], len(b)):  # more than the matrix has: the same product in fewer
        return _truncated(b @ a, None)
    return Pair(a, b, 1.0)


def _slerp_weights(pairs: list[Pair], weights: list[float]) -> list[float]:
    """Spherical weights of two products; their angle from the factors, without the products."""
    one, two = pairs
    share = weights[1] / (weights[0] + weights[1])
    cosine = _inner(one, two) / math.sqrt(max(_inner(one, one) * _inner(two, two), 1e-300))
    angle = math.acos(min(1.0, max(-1.0, cosine)))
    if math.sin(angle) < 1e-6:  # the same direction, or no angle at all
        return [1 - share, share]
    return [math.sin((1 - share) * angle) / math.sin(angle), math.sin(share * angle) / math.sin(angle)]


def _inner(one: Pair, two: Pair) -> float:
    """Sum of the products of the elements of both deltas."""
    b, a = one.b.astype(np.float64).T @ two.b, one.a.astype(np.float64) @ two.a.T
    return one.scale * two.scale * float(np.sum(b * a))


# ---- back to a rank ----


def _truncated(delta: Matrix, how: _How | None) -> Pair:
    u, s, v = np.linalg.svd(delta.astype(np.float32), full_matrices=False)
    rank = len(s) if how is None else min(how.rank or len(s), len(s))
    return Pair(np.ascontiguousarray(v[:rank]), np.ascontiguousarray(u[:, :rank] * s[:rank]), 1.0)


def _truncated_pair(pair: Pair, how: _How) -> Pair:
    """The same of B A: the SVD of a matrix of rank x rank between two orthogonal bases."""
    left, upper = np.linalg.qr(pair.b)
    right, lower = np.linalg.qr(pair.a.T)
    inner = _truncated(upper @ lower.T, how)
    return Pair(inner.a @ right.T, left @ inner.b, 1.0)


# ---- combinations of matrices ----

Combination = Callable[[list[Matrix], Matrix], Matrix]


def _combination(how: _How) -> Combination:
    kind = how.method.removesuffix("_svd")

    def pruned(matrices: list[Matrix]) -> Matrix:
        if kind == "linear":
            return np.stack(matrices)
        drop = _random_part if kind.startswith("dare") else _largest_part
        return np.stack([drop(m, how) for m in matrices])

    def combined(matrices: list[Matrix], weights: Matrix) -> Matrix:
        kept = pruned(matrices)
        weighted = kept * weights[:, None, None]
        if not kind.endswith("ties"):
            return weighted.sum(0)
        votes = kept if how.majority == "total" else np.sign(kept)
        agrees = np.sign(kept) == np.where(votes.sum(0) >= 0, 1, -1)
        return (weighted * agrees).sum(0) / np.maximum(agrees.sum(0), 1).astype(np.float32)

    return combined


def _largest_part(matrix: Matrix, how: _How) -> Matrix:
    if how.density >= 1:
        return matrix
    count = int(how.density * matrix.size)
    out = np.zeros_like(matrix).reshape(-1)
    largest = np.argsort(-np.abs(matrix.reshape(-1)), kind="stable")[:count]
    out[largest] = matrix.reshape(-1)[largest]
    return out.reshape(matrix.shape)


def _random_part(matrix: Matrix, how: _How) -> Matrix:
    if how.density >= 1:
        return matrix
    kept = how.random.random(matrix.shape) < how.density
    return matrix * kept / np.float32(how.density)
