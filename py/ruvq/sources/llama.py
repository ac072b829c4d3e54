"""Hyper-parameters of llama and its relatives, the tensors they ask for, and their GGUF metadata."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ModelError
from .architectures import ARCHITECTURES, Architecture

# Upper bounds: far above any model there is, low enough that products stay small numbers.
LIMITS = {
    "vocab_size": 1 << 22,
    "width": 1 << 17,
    "layers": 512,
    "heads": 1 << 12,
    "kv_heads": 1 << 12,
    "head_width": 1 << 12,
    "ff_width": 1 << 20,
    "context": 1 << 24,
}


@dataclass(frozen=True)
class RopeScaling:
    """`linear` (positions divided by factor) or `llama3` (per-frequency factors, arXiv:2407.21783)."""

    kind: str
    factor: float
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0
    original_context: int = 8192

    def __post_init__(self) -> None:
        numbers = (self.factor, self.low_frequency_factor, self.high_frequency_factor, self.original_context)
        if not all(math.isfinite(n) and n > 0 for n in numbers):
            raise _bad("rope scaling", "positive numbers", ", ".join(map(str, numbers)))
        if not self.low_frequency_factor < self.high_frequency_factor:
            raise _bad(
                "rope scaling",
                "a low frequency factor below the high one",
                f"{self.low_frequency_factor} and {self.high_frequency_factor}",
            )


@dataclass(frozen=True)
class LlamaParameters:
    """Hyper-parameters, checked on construction (ModelError). `architecture`: a name of ARCHITECTURES."""

    vocab_size: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    ff_width: int
    context: int
    rms_epsilon: float = 1e-5
    rope_base: float = 10000.0
    rope_scaling: RopeScaling | None = None
    tied: bool = False
    attention_bias: bool = False
    architecture: str = "llama"

    def __post_init__(self) -> None:
        for name, limit in LIMITS.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= limit:
                raise _bad(name, f"a whole number from 1 to {limit}", repr(value))
        if self.heads % self.kv_heads:
            raise _bad("kv_heads", f"a divisor of the {self.heads} heads", str(self.kv_heads))
        if self.head_width % 2:
            raise _bad("head_width", "an even number (rotary embedding turns pairs)", str(self.head_width))
        for name in ("rms_epsilon", "rope_base"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
                raise _bad(name, "a positive number", repr(value))

    @property
    def kind(self) -> Architecture:
        """What the architecture differs in."""
        return ARCHITECTURES[self.architecture]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """GGUF name -> shape of every tensor the model consists of, in file order."""
        query, key = self.heads * self.head_width, self.kv_heads * self.head_width
        out: dict[str, tuple[int, ...]] = {"token_embd.weight": (self.vocab_size, self.width)}
        if self.rope_scaling is not None and self.rope_scaling.kind == "llama3":
            out["rope_freqs.weight"] = (self.head_width // 2,)
        biases = {"attn_q": query, "attn_k": key, "attn_v": key, "attn_output": self.width}
        for layer in range(self.layers):
            block = {
                "attn_norm.weight": (self.width,),
                "attn_q.weight": (query, self.width),
                "attn_k.weight": (key, self.width),
                "attn_v.weight": (key, self.width),
                "attn_output.weight": (self.width, query),
                "ffn_norm.weight": (self.width,),
                "ffn_gate.weight": (self.ff_width, self.width),
                "ffn_up.weight": (self.ff_width, self.width),
                "ffn_down.weight": (self.width, self.ff_width),
            }
            if self.kind.head_norms:
                block |= {f"{name}.weight": (self.head_width,) for name in ("attn_q_norm", "attn_k_norm")}
            if self.attention_bias or self.kind.always_biased:
                block |= {f"{name}.bias": (biases[name],) for name in self.kind.biases}
            out |= {f"blk.{layer}.{name}": shape for name, shape in block.items()}
        out["output_norm.weight"] = (self.width,)
        if not self.tied:
            out["output.weight"] = (self.vocab_size, self.width)
        return out

    def metadata(self) -> Iterator[tuple[str, str, Any]]:
        """(key, GGUF value type, value) as llama.cpp's converters name them."""
        for key, kind, value in self._keys():
            yield f"{self.architecture}.{key}", kind, value

    def _keys(self) -> Iterator[tuple[str, str, Any]]:
        yield "vocab_size", "u32", self.vocab_size
        yield "context_length", "u32", self.context
        yield "embedding_length", "u32", self.width
        yield "block_count", "u32", self.layers
        yield "feed_forward_length", "u32", self.ff_width
        yield "attention.head_count", "u32", self.heads
        yield "attention.head_count_kv", "u32", self.kv_heads
        yield "attention.layer_norm_rms_epsilon", "f32", self.rms_epsilon
        yield "rope.dimension_count", "u32", self.head_width
        yield "rope.freq_base", "f32", self.rope_base
        if self.kind.writes_head_width or self.head_width * self.heads != self.width:
            yield "attention.key_length", "u32", self.head_width
            yield "attention.value_length", "u32", self.head_width
        if self.rope_scaling is not None and self.rope_scaling.kind == "linear":
            yield "rope.scaling.type", "string", "linear"
            yield "rope.scaling.factor", "f32", self.rope_scaling.factor


def _bad(name: str, expected: str, actual: str) -> ModelError:
    return ModelError(
        "a hyper-parameter is out of range",
        subject=name,
        expected=expected,
        actual=actual,
        hint="the configuration doesn't belong to a model that ruvq converts, or is damaged",
    )


def rotary_rows(heads: int, head_width: int) -> list[int]:
    """Row order that turns Hugging Face's q and k into GGUF's: (heads * head_width) source rows.

    Hugging Face rotates element i with i + head_width/2, GGUF's llama element 2i with 2i + 1.
    """
    half = head_width // 2
    pairs = [i for first in range(half) for i in (first, first + half)]
    return [head * head_width + i for head in range(heads) for i in pairs]


def llama3_frequency_factors(parameters: LlamaParameters) -> array[float]:
    """(head_width / 2) float32 divisors of the rotary frequencies, as rope_freqs.weight holds them."""
    scaling = parameters.rope_scaling
    assert scaling is not None
    out = []
    low = scaling.original_context / scaling.low_frequency_factor
    high = scaling.original_context / scaling.high_frequency_factor
    for i in range(parameters.head_width // 2):
        wavelength = 2 * math.pi * parameters.rope_base ** (2 * i / parameters.head_width)
        if wavelength < high:
            out.append(1.0)
        elif wavelength > low:
            out.append(scaling.factor)
        else:
            smooth = (scaling.original_context / wavelength - scaling.low_frequency_factor) / (
                scaling.high_frequency_factor - scaling.low_frequency_factor
            )
            out.append(1 / ((1 - smooth) / scaling.factor + smooth))
    return array("f", out)


def check_shapes(
    parameters: LlamaParameters, found: Mapping[str, tuple[int, ...]], names: Mapping[str, str] | None = None
) -> None:
    """ModelError unless `found` (GGUF name -> shape) is exactly what the parameters ask for.

    `names` maps GGUF names to the source's own, for the messages.
    """

    def shown(name: str) -> str:
        return (names or {}).get(name, name)

    wanted = parameters.shapes()
    for name, shape in wanted.items():
        if name not in found:
            raise ModelError(
                "a tensor that the model needs is missing",
                subject=shown(name),
                expected=f"shape {list(shape)}",
                actual=f"{len(found)} other tensors",
                hint="the weights are incomplete, or belong to another configuration",
            )
        if tuple(found[name]) != shape:
            raise ModelError(
                "a tensor's shape doesn't fit the configuration",
                subject=shown(name),
                expected=str(list(shape)),
                actual=str(list(found[name])),
                hint="weights and configuration belong to different models",
            )
    extra = sorted(set(found) - set(wanted))
    if extra:
        raise ModelError(
            f"the weights hold tensors that a {parameters.architecture} model hasn't got",
            subject=shown(extra[0]),
            expected=f"only tensors of the architecture {parameters.architecture}",
            actual=", ".join(shown(n) for n in extra[:5]) + (" ..." if len(extra) > 5 else ""),
            hint="this is a variant of the architecture that ruvq doesn't support yet",
        )
