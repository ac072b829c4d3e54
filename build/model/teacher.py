"""Read the ternary teacher `bit_model_3M.bin` and run it with a key/value cache.

The file is a llama-architecture BitNet b1.58 model: 256 bytes of header, the final norm and the embedding
in float32, then every matrix as one float32 scale and 2-bit codes, most significant bits first. Each linear
layer first divides its input by its root mean square and rounds it to 8 bits per token; there are no other
norms inside the blocks. This file only reads and runs the model: sampling is in sample_teacher.py.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

MAGIC = 0x616B3432
HEADER_BYTES = 256
ROPE_THETA = 10000.0
NORM_EPS = 1e-5
# 2-bit codes: 00 is 0, 01 is +1, 11 is -1; 10 does not occur and is refused
CODE_VALUES = np.array([0, 1, 99, -1], dtype=np.int8)


class TeacherError(ValueError):
    """The teacher's file or its tokenizer is not what was expected."""


@dataclass(frozen=True)
class TeacherConfig:
    dim: int
    hidden_dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    vocab_size: int
    max_seq_len: int

    @property
    def head_dim(self) -> int:
        return self.dim // self.n_heads


def read_header(data: bytes) -> TeacherConfig:
    if len(data) < HEADER_BYTES:
        raise TeacherError(f"teacher: expected at least {HEADER_BYTES} bytes, found {len(data)}")
    magic, version, *fields = struct.unpack_from("<Ii7i", data, 0)
    shared = data[36]
    if magic != MAGIC or version != 1 or shared != 1:
        raise TeacherError(
            f"teacher: expected magic {MAGIC:#x}, version 1, tied output; "
            f"found {magic:#x}, version {version}, tied {shared}"
        )
    return TeacherConfig(*fields)


def unpack_ternary(packed: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(n / 4,) uint8 to `shape` int8 in {-1, 0, 1}; the first weight is in the highest two bits."""
    codes = np.stack([(packed >> shift) & 3 for shift in (6, 4, 2, 0)], axis=1).reshape(shape)
    if (codes == 2).any():
        raise TeacherError("teacher: the code 10 occurs, which is no ternary value")
    return CODE_VALUES[codes]


def quantize_input(x: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """x (n, width), scaled to length width**-0.5, as whole numbers up to 127 and their step (n, 1)."""
    unit = F.normalize(x, dim=-1) * x.shape[-1] ** -0.5
    step = unit.abs().amax(-1, keepdim=True).clamp(min=1e-5) / 127.0
    return (unit / step).round().to(dtype), step  # whole numbers up to 127 are exact in bfloat16 too


def attend_one(q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """One new position, q (batch, kv_heads, group, head_dim), over keys (batch, kv_heads, n, head_dim)."""
    scores = (q[:, :, :, None, :] * keys[:, :, None].float()).sum(-1) * q.shape[-1] ** -0.5
    weights = scores.softmax(-1)
    return (weights[..., None] * values[:, :, None].float()).sum(-2)


class Teacher:
    """The ternary model, its weights and cache held as `dtype` on `device`."""

    def __init__(
        self, path: Path, device: str = "cpu", dtype: torch.dtype = torch.float32, compiled: bool = False
    ) -> None:
        data = path.read_bytes()
        self.config = config = read_header(data)
        self.device, self.dtype = device, dtype
        self.attend_one = torch.compile(attend_one, dynamic=True) if compiled else attend_one
        self.quantize_input = torch.compile(quantize_input, dynamic=True) if compiled else quantize_input
        floats = np.frombuffer(data, "<f4", config.dim * (1 + config.vocab_size), HEADER_BYTES)
        self.norm = torch.from_numpy(floats[: config.dim].copy()).to(device)
        embedding = floats[config.dim :].reshape(config.vocab_size, config.dim).copy()
        self.embedding = torch.from_numpy(embedding).to(device)  # (vocab, dim), also the output matrix
        self.output = (self.embedding * self.norm).to(dtype)  # the final norm folded in
        offset = HEADER_BYTES + floats.nbytes
        kv_dim = config.n_kv_heads * config.head_dim
        shapes = {
            "wq": (config.dim, config.dim),
            "wk": (kv_dim, config.dim),
            "wv": (kv_dim, config.dim),
            "wo": (config.dim, config.dim),
            "w1": (config.hidden_dim, config.dim),
            "w2": (config.dim, config.hidden_dim),
            "w3": (config.hidden_dim, config.dim),
        }
        loaded: dict[str, list[torch.Tensor]] = {name: [] for name in shapes}
        for name, shape in shapes.items():
            for _ in range(config.n_layers):
                count = shape[0] * shape[1] // 4
                if offset + 4 + count > len(data):
                    raise TeacherError(f"teacher: the file ends inside {name}")
                (scale,) = struct.unpack_from("<f", data, offset)
                ternary = unpack_ternary(np.frombuffer(data, np.uint8, count, offset + 4), shape)
                loaded[name].append(torch.from_numpy(ternary.astype(np.float32) * scale).to(device, dtype))
                offset += 4 + count
        if offset != len(data):
            raise TeacherError(f"teacher: {len(data) - offset} bytes are left over at the end")
        # matrices that read the same input become one
        self.wqkv = [torch.cat(m) for m in zip(loaded["wq"], loaded["wk"], loaded["wv"], strict=True)]
        self.w13 = [torch.cat(m) for m in zip(loaded["w1"], loaded["w3"], strict=True)]
        self.wo, self.w2 = loaded["wo"], loaded["w2"]
        position = torch.arange(config.max_seq_len).float()
        frequency = ROPE_THETA ** (-torch.arange(0, config.head_dim, 2).float() / config.head_dim)
        angle = torch.outer(position, frequency)
        self.cos, self.sin = angle.cos().to(device), angle.sin().to(device)  # (max_seq_len, head_dim / 2)

    def linear(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """One BitNet linear layer, activations rounded as in training: (n, in) to (n, out)."""
        whole, step = self.quantize_input(x, self.dtype)
        return F.linear(whole, weight).float() * step

    def rope(self, x: torch.Tensor, position: int, length: int) -> torch.Tensor:
        """Rotate pairs (2i, 2i + 1) of (n, length, heads, head_dim)."""
        cos = self.cos[position : position + length, None, :]
        sin = self.sin[position : position + length, None, :]
        even, odd = x[..., 0::2], x[..., 1::2]
        return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)

    def new_cache(self, batch: int, length: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Per layer: keys and values, each (batch, kv_heads, length, head_dim)."""
        c = self.config
        shape = (batch, c.n_kv_heads, length, c.head_dim)
        return [
            (
                torch.zeros(shape, device=self.device, dtype=self.dtype),
                torch.zeros(shape, device=self.device, dtype=self.dtype),
            )
            for _ in range(c.n_layers)
        ]

    @torch.inference_mode()
    def forward(
        self, tokens: torch.Tensor, cache: list[tuple[torch.Tensor, torch.Tensor]], position: int
    ) -> torch.Tensor:
        """Logits (batch, length, vocab) of tokens (batch, length) from `position` on; fills the cache."""
        c = self.config
        batch, length = tokens.shape
        end = position + length
        q_dim, kv_dim = c.dim, c.n_kv_heads * c.head_dim
        group = c.n_heads // c.n_kv_heads
        h = self.embedding[tokens].view(batch * length, c.dim)
        for layer in range(c.n_layers):
            q, k, v = self.linear(h, self.wqkv[layer]).split((q_dim, kv_dim, kv_dim), dim=-1)
            q = self.rope(q.view(batch, length, c.n_heads, c.head_dim), position, length)
            k = self.rope(k.view(batch, length, c.n_kv_heads, c.head_dim), position, length)
            keys, values = cache[layer]
            keys[:, :, position:end] = k.transpose(1, 2)
            values[:, :, position:end] = v.view(batch, length, c.n_kv_heads, c.head_dim).transpose(1, 2)
            if length == 1 and self.device != "cpu":
                k_all, v_all = keys[:, :, :end], values[:, :, :end]
                q = q.transpose(1, 2).to(self.dtype)
                mixed = F.scaled_dot_product_attention(q, k_all, v_all, enable_gqa=group > 1).float()
            elif length == 1:
                q = q.view(batch, c.n_kv_heads, group, c.head_dim)
                mixed = self.attend_one(q, keys[:, :, :end], values[:, :, :end])
            else:
                past = torch.ones(length, end, dtype=torch.bool, device=self.device).tril(position)
                mixed = F.scaled_dot_product_attention(
                    q.transpose(1, 2).to(self.dtype),
                    keys[:, :, :end].repeat_interleave(group, 1),
                    values[:, :, :end].repeat_interleave(group, 1),
                    past,
                ).float()
                mixed = mixed.transpose(1, 2)
            h = h + self.linear(mixed.reshape(batch * length, c.dim), self.wo[layer])
            gate, up = self.linear(h, self.w13[layer]).split(c.hidden_dim, dim=-1)
            h = h + self.linear(F.silu(gate) * up, self.w2[layer])
        unit = h * torch.rsqrt(h.square().mean(-1, keepdim=True) + NORM_EPS)
        return F.linear(unit.to(self.dtype), self.output).float().view(batch, length, c.vocab_size)


class TeacherTokenizer:
    """The llama2.c `tok512.bin` vocabulary: scored pieces, merged best score first."""

    BOS, EOS = 1, 2

    def __init__(self, path: Path, vocab_size: int) -> None:
        data = path.read_bytes()
        offset = 4
        self.pieces: list[bytes] = []
        self.scores: list[float] = []
        while offset < len(data):
            score, length = struct.unpack_from("<fi", data, offset)
            offset += 8
            self.pieces.append(data[offset : offset + length])
            self.scores.append(score)
            offset += length
        if len(self.pieces) != vocab_size:
            raise TeacherError(f"tokenizer: expected {vocab_size} pieces, found {len(self.pieces)}")
        self.ids = {piece: i for i, piece in enumerate(self.pieces)}
        for byte in range(256):  # pieces such as <0x0A> stand for single bytes
            self.pieces[3 + byte] = bytes([byte])

    def encode(self, text: str) -> list[int]:
        """Token ids without BOS. A space is put in front, as SentencePiece does."""
        tokens: list[int] = []
        for char in " " + text:
            raw = char.encode()
            known = self.ids.get(raw)
            tokens.extend([known] if known is not None else [3 + byte for byte in raw])
        while True:
            best, best_score = -1, -1e30
            for i in range(len(tokens) - 1):
                merged = self.ids.get(self.pieces[tokens[i]] + self.pieces[tokens[i + 1]])
                if merged is not None and self.scores[merged] > best_score:
                    best, best_score = i, self.scores[merged]
            if best < 0:
                return tokens
            tokens[best : best + 2] = [self.ids[self.pieces[tokens[best]] + self.pieces[tokens[best + 1]]]]

    def decode(self, tokens: list[int]) -> str:
        return b"".join(self.pieces[token] for token in tokens).decode("utf-8", "replace").lstrip(" ")
