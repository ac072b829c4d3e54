"""A llama forward pass in NumPy float64, rotary embedding in Hugging Face's half-rotation form.

Takes weights under GGUF's names and turns q and k back to Hugging Face's row order first, so that a wrong
permutation anywhere shows. Written from the architecture's papers, not from the engine.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ruvq.sources.llama import LlamaParameters
from sources.tiny_models import hf_tensors


def _rms_norm(x: np.ndarray, weight: np.ndarray, epsilon: float) -> np.ndarray:
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + epsilon) * weight


def _rotate(x: np.ndarray, base: float, divisors: np.ndarray) -> np.ndarray:
    """x: (tokens, heads, head_width); element i turns with element i + head_width / 2.

    divisors: (head_width / 2) or (1), by which the frequencies are divided.
    """
    tokens, _, width = x.shape
    angles = np.arange(tokens)[:, None] * base ** (-2 * np.arange(width // 2) / width) / divisors
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    first, second = x[..., : width // 2], x[..., width // 2 :]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def _linear(x: np.ndarray, w: dict[str, np.ndarray], name: str) -> np.ndarray:
    return x @ w[name + ".weight"].T + w.get(name + ".bias", 0.0)


def logits(
    weights: dict[str, np.ndarray], p: LlamaParameters, tokens: list[int], divisors: Sequence[float] = (1.0,)
) -> np.ndarray:
    """(tokens, vocab_size) float64. `divisors` of the rotary frequencies: one, or one for each."""
    turns = np.array(divisors)
    w = {name: values.astype(np.float64) for name, values in hf_tensors(weights, p).items()}
    x = w["model.embed_tokens.weight"][tokens]
    mask = np.triu(np.full((len(tokens), len(tokens)), -np.inf), 1)
    for layer in range(p.layers):
        at = f"model.layers.{layer}."
        h = _rms_norm(x, w[at + "input_layernorm.weight"], p.rms_epsilon)
        q, k, v = (
            _linear(h, w, f"{at}self_attn.{name}_proj").reshape(len(tokens), -1, p.head_width)
            for name in "qkv"
        )
        if p.kind.head_norms:
            q, k = (
                _rms_norm(x, w[f"{at}self_attn.{name}_norm.weight"], p.rms_epsilon)
                for x, name in ((q, "q"), (k, "k"))
            )
        q, k = _rotate(q, p.rope_base, turns), _rotate(k, p.rope_base, turns)
        k, v = (np.repeat(a, p.heads // p.kv_heads, axis=1) for a in (k, v))
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(p.head_width) + mask
        share = np.exp(scores - scores.max(axis=-1, keepdims=True))
        share /= share.sum(axis=-1, keepdims=True)
        mixed = np.einsum("hqk,khd->qhd", share, v).reshape(len(tokens), -1)
        x = x + _linear(mixed, w, at + "self_attn.o_proj")
        h = _rms_norm(x, w[at + "post_attention_layernorm.weight"], p.rms_epsilon)
        gate = h @ w[at + "mlp.gate_proj.weight"].T
        x = (
            x
            + (gate / (1 + np.exp(-gate)) * (h @ w[at + "mlp.up_proj.weight"].T))
            @ w[at + "mlp.down_proj.weight"].T
        )
    x = _rms_norm(x, w["model.norm.weight"], p.rms_epsilon)
    return x @ w.get("lm_head.weight", w["model.embed_tokens.weight"]).T
