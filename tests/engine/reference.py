"""The forward pass of llama and its relatives in NumPy and float64, independent of the engine."""

from __future__ import annotations

import numpy as np

from .tiny import Llama


def rms_norm(x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
    """x / rms(x) * weight, along the last axis."""
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


def rotate(x: np.ndarray, model: Llama, factors: np.ndarray | None) -> np.ndarray:
    """RoPE on (tokens, heads, key_width): the first rope_width elements of each head."""
    n = model.rope_width
    frequency = model.rope_base ** (-np.arange(0, n, 2) / n)
    if factors is not None:
        frequency = frequency / factors
    angle = np.arange(len(x))[:, None, None] * frequency * model.rope_scale
    turn = np.exp(1j * angle)
    out = x.copy()
    first, second = (np.s_[: n // 2], np.s_[n // 2 : n]) if model.neox else (np.s_[0:n:2], np.s_[1:n:2])
    turned = (x[..., first] + 1j * x[..., second]) * turn
    out[..., first], out[..., second] = turned.real, turned.imag
    return out


def attend(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Causal attention; q (tokens, heads, key_width), k and v (tokens, kv_heads, ...)."""
    tokens, heads, width = q.shape
    group = heads // k.shape[1]
    k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
    scores = np.einsum("thd,shd->hts", q, k) / np.sqrt(width)
    scores = np.where(np.tril(np.ones((tokens, tokens), bool)), scores, -np.inf)
    p = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("hts,shd->thd", p / p.sum(-1, keepdims=True), v).reshape(tokens, -1)


def logits(model: Llama, tokens: list[int]) -> np.ndarray:
    """(tokens, vocab) float64."""
    w = {name: values.astype(np.float64) for name, values in model.tensors.items()}

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0.0)

    factors = w.get("rope_freqs.weight")
    count = len(tokens)
    x = w["token_embd.weight"][tokens]
    for n in range(model.layers):
        at = f"blk.{n}."
        h = rms_norm(x, w[at + "attn_norm.weight"], model.eps)
        q = linear(h, at + "attn_q").reshape(count, model.heads, -1)
        k = linear(h, at + "attn_k").reshape(count, model.kv_heads, -1)
        if at + "attn_q_norm.weight" in w:
            q = rms_norm(q, w[at + "attn_q_norm.weight"], model.eps)
            k = rms_norm(k, w[at + "attn_k_norm.weight"], model.eps)
        q, k = rotate(q, model, factors), rotate(k, model, factors)
        v = linear(h, at + "attn_v").reshape(count, model.kv_heads, -1)
        x = x + linear(attend(q, k, v), at + "attn_output")
        h = rms_norm(x, w[at + "ffn_norm.weight"], model.eps)
        gate = linear(h, at + "ffn_gate")
        x = x + linear(gate / (1 + np.exp(-gate)) * linear(h, at + "ffn_up"), at + "ffn_down")
    h = rms_norm(x, w["output_norm.weight"], model.eps)
    return h @ w.get("output.weight", w["token_embd.weight"]).T


def relative_error(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference over the largest magnitude."""
    return float(np.abs(a - b).max() / np.abs(b).max())


def hadamard_matrix(width: int, seed: int) -> np.ndarray:
    """H S of docs/formats.md as a float64 matrix: greedy powers of two up to 256, signs from SplitMix64."""
    mask = (1 << 64) - 1
    signs = []
    for i in range(width):
        z = (seed + (i + 1) * 0x9E3779B97F4A7C15) & mask
        z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & mask
        signs.append(-1.0 if (z ^ z >> 31) >> 63 else 1.0)
    out = np.zeros((width, width))
    start = 0
    while start < width:
        size = min(256, 1 << ((width - start).bit_length() - 1))
        block = np.ones((1, 1))
        while len(block) < size:
            block = np.block([[block, block], [block, -block]])
        out[start : start + size, start : start + size] = block / np.sqrt(size)
        start += size
    return out * np.array(signs)
