"""What the architectures differ in, as data: one row for each. All else they share."""

from __future__ import annotations

from dataclasses import dataclass

_QKV, _ALL = ("attn_q", "attn_k", "attn_v"), ("attn_q", "attn_k", "attn_v", "attn_output")


@dataclass(frozen=True)
class Architecture:
    """One that ruvq converts and runs; `wasm_kernels/model/architecture.c` has the engine's side of it."""

    name: str  # general.architecture, and the beginning of its keys
    model_types: tuple[str, ...]  # Hugging Face's names for it
    rope_neox: bool = False  # GGUF keeps q and k in Hugging Face's order: rotary pairs half a head apart
    head_norms: bool = False  # attn_q_norm and attn_k_norm: every head goes through an RMS norm
    biases: tuple[str, ...] = _ALL  # the projections that have a bias where a model has any
    always_biased: bool = False  # it has them whatever its configuration says
    own_window_switch: bool = False  # a sliding window counts only with use_sliding_window
    head_width: int | None = None  # of a configuration without head_dim; None: width / heads
    writes_head_width: bool = False  # key_length and value_length stand in every file


ARCHITECTURES = {
    a.name: a
    for a in (
        Architecture("llama", ("llama", "mistral")),
        Architecture(
            "qwen2", ("qwen2",), rope_neox=True, biases=_QKV, always_biased=True, own_window_switch=True
        ),
        Architecture(
            "qwen3",
            ("qwen3",),
            rope_neox=True,
            head_norms=True,
            own_window_switch=True,
            head_width=128,
            writes_head_width=True,
        ),
    )
}
BY_MODEL_TYPE = {kind: a for a in ARCHITECTURES.values() for kind in a.model_types}
