"""Random models in real shapes: the right bytes for every format, so that speed and size can be measured
where real weights can't be had. Their text is noise; nothing about quality follows from them.

    K  110M: 768 wide, 12 layers, all widths multiples of 256
    M  135M: SmolLM-135M's shape, 576 wide, 30 layers, 9 heads and 3 key-value heads
    S1, S4, S30  1M, 4M and 28M, small ones for scaling
    Q  494M: Qwen2.5-0.5B's shape, 896 wide, 24 layers, 14 heads and 2 key-value heads, 151,936 tokens
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ruvq import formats
from ruvq.gguf.types import TensorSpec
from ruvq.gguf.writer import write_gguf

# what follows the codes in a block: every byte of these formats is codes but for a 2-byte header
_OWN = {"pi-q3", "pi-q2", "pi-t3", "pi-t2", "pi-x3", "pi-x2", "ternary", "pi-ternary"}
_TRELLIS = {"pi-t3", "pi-t2", "pi-x3", "pi-x2"}


@dataclass(frozen=True)
class Shape:
    """The sizes of a model. Under qwen2 query, key and value have biases."""

    name: str
    width: int
    layers: int
    heads: int
    kv_heads: int
    ff_width: int
    vocab: int
    context: int = 4608
    architecture: str = "llama"
    rope_base: float = 10000.0
    epsilon: float = 1e-5
    pre_tokenizer: str = "gpt-2"

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    def matrices(self) -> Iterator[tuple[str, int, int]]:
        """(name, rows, width) of every two-dimensional tensor."""
        kv = self.kv_heads * self.head_width
        yield "token_embd.weight", self.vocab, self.width
        for i in range(self.layers):
            yield f"blk.{i}.attn_q.weight", self.width, self.width
            yield f"blk.{i}.attn_k.weight", kv, self.width
            yield f"blk.{i}.attn_v.weight", kv, self.width
            yield f"blk.{i}.attn_output.weight", self.width, self.width
            yield f"blk.{i}.ffn_gate.weight", self.ff_width, self.width
            yield f"blk.{i}.ffn_up.weight", self.ff_width, self.width
            yield f"blk.{i}.ffn_down.weight", self.width, self.ff_width

    @property
    def parameters(self) -> int:
        """Weights of all matrices and norms."""
        matrices = sum(rows * width for _, rows, width in self.matrices())
        return matrices + sum(width for _, width in self.vectors())

    def vectors(self) -> Iterator[tuple[str, int]]:
        """(name, width) of the norms and biases."""
        kv = self.kv_heads * self.head_width
        yield "output_norm.weight", self.width
        for i in range(self.layers):
            yield f"blk.{i}.attn_norm.weight", self.width
            yield f"blk.{i}.ffn_norm.weight", self.width
            if self.architecture == "qwen2":
                yield f"blk.{i}.attn_q.bias", self.width
                yield f"blk.{i}.attn_k.bias", kv
                yield f"blk.{i}.attn_v.bias", kv


SHAPES = {
    "S1": Shape("S1", 128, 4, 2, 2, 384, 2048),
    "S4": Shape("S4", 256, 4, 4, 4, 768, 4096),
    "S30": Shape("S30", 512, 8, 8, 4, 1408, 8192),
    "K": Shape("K", 768, 12, 12, 12, 2048, 32000),
    "M": Shape("M", 576, 30, 9, 3, 1536, 49152),
    "Q": Shape("Q", 896, 24, 14, 2, 4864, 151936, 32768, "qwen2", 1e6, 1e-6, "qwen2"),
    "tiny": Shape("tiny", 64, 2, 4, 2, 192, 512, 256),
}


def _blocks(width: int) -> list[int]:
    """Widths of the blocks of a row in ruvq's own formats."""
    return [256] * (width // 256) + ([width % 256] if width % 256 else [])


def random_rows(format_name: str, rows: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Bytes of random rows, (rows, row_bytes) uint8: random codes, scales near 0.02."""
    if format_name == "f32":
        return (rng.standard_normal((rows, width), np.float32) * np.float32(0.02)).view(np.uint8)
    if format_name == "f16":
        return (
            (rng.standard_normal((rows, width), np.float32) * np.float32(0.02)).astype("<f2").view(np.uint8)
        )
    if format_name == "bf16":
        data = (rng.standard_normal((rows, width), np.float32) * np.float32(0.02)).view(np.uint32)
        return (data >> 16).astype("<u2").view(np.uint8).reshape(rows, 2 * width)
    if format_name == "q8_0":
        blocks = np.empty((rows, width // 32, 34), np.uint8)
        blocks[..., :2] = _f16(rng, (rows, width // 32), 0.0003)
        blocks[..., 2:] = rng.integers(0, 256, (rows, width // 32, 32), np.uint8)
        return blocks.reshape(rows, -1)
    if format_name not in _OWN:
        raise ValueError(f"no random rows for {format_name!r}")
    return np.concatenate([_own_block(format_name, rows, n, rng) for n in _blocks(width)], axis=1)


def _f16(rng: np.random.Generator, shape: tuple[int, ...], size: float) -> np.ndarray:
    scale = (rng.uniform(0.5, 1.5, shape) * size).astype("<f2")
    return scale.view(np.uint8).reshape(*shape, 2)


def _own_block(format_name: str, rows: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """One block column: encodes nothing, but leaves places beyond the width and forbidden codes at zero."""
    nbytes = formats.get(format_name).row_bytes(n)
    out = np.empty((rows, nbytes), np.uint8)
    codes = rng.integers(0, 256, (rows, nbytes - 2), np.uint8)
    if format_name.endswith("ternary"):
        codes &= ~((codes >> 1) & codes & 0x55)  # code 3 is never written: make it 2
    if n % 256:  # a tail: keep whole lanes, which needs a width of 16 steps of whole bytes
        if n % 64:
            raise ValueError(f"no random rows with a tail of {n}")
        if format_name in ("pi-q3", "pi-t3", "pi-x3") and (n // 16) % 8 and (n // 16) % 8 != 4:
            raise ValueError(f"no random rows with a tail of {n}")
    out[:, :-2] = codes
    if format_name in _TRELLIS:
        out[:, -2] = rng.integers(150, 156, rows)
        out[:, -1] = rng.integers(0, 256, rows)
    else:
        out[:, -2:] = _f16(rng, (rows,), 0.01)
    return out


def write_model(
    path: Path, shape: Shape, format_name: str, seed: int = 1, *, ascii_only: bool = False
) -> None:
    """A GGUF file of random weights in one format, embeddings included, tied output, norms in F32.
    `ascii_only`: whatever the model says is text; bytes beyond ASCII are control tokens."""
    rng = np.random.default_rng(seed)
    tensors: list[tuple[TensorSpec, Callable[[], np.ndarray]]] = []
    for name, rows, width in shape.matrices():
        data = partial(random_rows, format_name, rows, width, rng)
        tensors.append((TensorSpec(name, format_name, (rows, width)), data))
    for name, width in shape.vectors():
        fill = np.zeros if name.endswith(".bias") else np.ones
        tensors.append((TensorSpec(name, "f32", (width,)), partial(fill, width, np.float32)))
    at = shape.architecture
    tokens, merges = _vocabulary(shape.vocab, ascii_only)
    metadata = {
        "general.name": f"random weights in the shape {shape.name}",
        f"{at}.block_count": shape.layers,
        f"{at}.context_length": shape.context,
        f"{at}.embedding_length": shape.width,
        f"{at}.feed_forward_length": shape.ff_width,
        f"{at}.attention.head_count": shape.heads,
        f"{at}.attention.head_count_kv": shape.kv_heads,
        f"{at}.attention.layer_norm_rms_epsilon": shape.epsilon,
        f"{at}.rope.dimension_count": shape.head_width,
        f"{at}.rope.freq_base": shape.rope_base,
        f"{at}.vocab_size": shape.vocab,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": shape.pre_tokenizer,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if ascii_only and not t.isascii() else 1 for t in tokens],
        "tokenizer.ggml.merges": merges,
    }
    write_gguf(path, shape.architecture, metadata, tensors)


def _vocabulary(size: int, ascii_only: bool) -> tuple[list[str], list[str]]:
    """Tokens and merges of a byte-level vocabulary as large as a trained one's: the 256 bytes, then tokens
    each joined from two earlier ones, of at most 12 characters (and of printable ASCII, if asked for)."""
    rng = np.random.default_rng(size)
    tokens = _byte_characters()
    known, merges = set(tokens), []
    while len(tokens) < size:
        for left, right in rng.integers(0, [[len(tokens)], [256]], (2, 4096)).T.tolist():
            token = tokens[left] + tokens[right]
            if len(token) > 12 or (ascii_only and not token.isascii()):
                continue
            if token not in known and len(tokens) < size:
                known.add(token)
                tokens.append(token)
                merges.append(f"{tokens[left]} {tokens[right]}")
    return tokens, merges


def _byte_characters() -> list[str]:
    """The 256 characters by which byte-level vocabularies write bytes: printable ones are themselves."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(len(others))]
