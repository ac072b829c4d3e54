"""Small models of llama and its relatives as GGUF files, by the gguf package: an independent writer."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import gguf
from gguf import GGUFWriter
from ruvq import core
from ruvq.core import CONSTANTS, structs


@dataclass
class Llama:
    """Weights by GGUF name, float32, matrices (rows, width); interleaved rotary pairs unless `neox`."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    ff: int
    vocab: int
    context: int
    eps: float = 1e-5
    rope_base: float = 10000.0
    rope_scale: float = 1.0  # positions are multiplied by it
    neox: bool = False
    key_width: int = 0
    value_width: int = 0
    rope_width: int = 0
    architecture: str = "llama"
    tensors: dict[str, np.ndarray] = field(default_factory=dict)
    tokens: list[bytes] | None = None
    scores: list[float] | None = None

    def __post_init__(self) -> None:
        self.key_width = self.key_width or self.width // self.heads
        self.value_width = self.value_width or self.width // self.heads
        self.rope_width = self.rope_width or self.key_width


def matrix_names(model: Llama) -> list[str]:
    """Names of all matrices that are in the model."""
    return [n for n, t in model.tensors.items() if t.ndim == 2]


def random_llama(
    seed: int = 1, tied: bool = True, biases: bool = False, head_norms: bool = False, **sizes: Any
) -> Llama:
    """A random model: GQA and widths that are no multiple of 16."""
    shape = {
        "width": 60,
        "layers": 3,
        "heads": 6,
        "kv_heads": 2,
        "ff": 172,
        "vocab": 131,
        "context": 96,
    } | sizes
    model = Llama(**shape)
    rng = np.random.default_rng(seed)

    def draw(rows: int, width: int) -> np.ndarray:
        return (rng.standard_normal((rows, width)) / np.sqrt(width)).astype(np.float32)

    t = model.tensors
    t["token_embd.weight"] = draw(model.vocab, model.width) * np.float32(3)
    for n in range(model.layers):
        shapes = {
            "attn_q": (model.heads * model.key_width, model.width),
            "attn_k": (model.kv_heads * model.key_width, model.width),
            "attn_v": (model.kv_heads * model.value_width, model.width),
            "attn_output": (model.width, model.heads * model.value_width),
            "ffn_gate": (model.ff, model.width),
            "ffn_up": (model.ff, model.width),
            "ffn_down": (model.width, model.ff),
        }
        for part, (rows, width) in shapes.items():
            t[f"blk.{n}.{part}.weight"] = draw(rows, width)
            if biases:
                t[f"blk.{n}.{part}.bias"] = rng.standard_normal(rows).astype(np.float32) * np.float32(0.3)
        if head_norms:
            for part in ("attn_q_norm", "attn_k_norm"):
                t[f"blk.{n}.{part}.weight"] = rng.uniform(0.5, 1.5, model.key_width).astype(np.float32)
        for part in ("attn_norm", "ffn_norm"):
            t[f"blk.{n}.{part}.weight"] = rng.uniform(0.5, 1.5, model.width).astype(np.float32)
    t["output_norm.weight"] = rng.uniform(0.5, 1.5, model.width).astype(np.float32)
    if not tied:
        t["output.weight"] = draw(model.vocab, model.width) * np.float32(3)
    return model


def metadata(model: Llama) -> dict[str, tuple[Any, str]]:
    """Key: (value, kind)."""
    at = f"{model.architecture}."
    out: dict[str, tuple[Any, str]] = {
        at + "block_count": (model.layers, "u32"),
        at + "context_length": (model.context, "u32"),
        at + "embedding_length": (model.width, "u32"),
        at + "feed_forward_length": (model.ff, "u32"),
        at + "attention.head_count": (model.heads, "u32"),
        at + "attention.head_count_kv": (model.kv_heads, "u32"),
        at + "attention.layer_norm_rms_epsilon": (model.eps, "f32"),
        at + "rope.freq_base": (model.rope_base, "f32"),
        at + "rope.dimension_count": (model.rope_width, "u32"),
        at + "vocab_size": (model.vocab, "u32"),
    }
    if model.key_width * model.heads != model.width:
        out[at + "attention.key_length"] = (model.key_width, "u32")
    if model.value_width * model.heads != model.width:
        out[at + "attention.value_length"] = (model.value_width, "u32")
    if model.rope_scale != 1.0:
        out[at + "rope.scaling.type"] = ("linear", "str")
        out[at + "rope.scaling.factor"] = (1 / model.rope_scale, "f32")
    if model.neox and model.architecture == "llama":  # the others have it so
        out["ruvq.rope.neox"] = (True, "bool")
    if model.tokens is not None:
        out |= {
            "tokenizer.ggml.model": ("llama", "str"),
            "tokenizer.ggml.tokens": (model.tokens, "arr"),
            "tokenizer.ggml.bos_token_id": (1, "u32"),
            "tokenizer.ggml.eos_token_id": (2, "u32"),
        }
    return out


def _add(writer: GGUFWriter, key: str, value: Any, kind: str) -> None:
    add = {
        "u32": writer.add_uint32,
        "u64": writer.add_uint64,
        "i32": writer.add_int32,
        "f32": writer.add_float32,
        "str": writer.add_string,
        "bool": writer.add_bool,
        "arr": writer.add_array,
    }[kind]
    add(key, value)


def write(
    path: Path,
    model: Llama,
    *,
    changes: dict[str, tuple[Any, str] | None] | None = None,
    architecture: str | None = None,
    encoded: dict[str, tuple[str, np.ndarray]] | None = None,
    dtypes: dict[str, gguf.GGMLQuantizationType] | None = None,
) -> Path:
    """Writes the model. `changes`: keys to set or (None) leave out. `encoded`: tensor -> (ruvq format, bytes
    of shape (rows, row_bytes)). `dtypes`: other float or ggml types by tensor name."""
    writer = GGUFWriter(path, architecture or model.architecture)
    keys = metadata(model) | (changes or {})
    if encoded:
        keys |= {
            "ruvq.layout_version": (1, "u32"),
            "ruvq.tensor.names": (list(encoded), "arr"),
            "ruvq.tensor.formats": ([f for f, _ in encoded.values()], "arr"),
            "ruvq.tensor.widths": ([model.tensors[n].shape[1] for n in encoded], "arr"),
        }
    for key, entry in keys.items():
        if entry is not None:
            _add(writer, key, *entry)
    if model.tokens is not None:
        writer.add_token_scores(model_scores(model))
        writer.add_token_types(model_types(model))
    for name, values in model.tensors.items():
        if encoded and name in encoded:
            writer.add_tensor(name, encoded[name][1].view(np.int8))
        elif dtypes and name in dtypes:
            kind = dtypes[name]
            data = gguf.quants.quantize(values, kind)
            writer.add_tensor(name, data, raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def model_scores(model: Llama) -> list[float]:
    """Scores of the vocabulary, for the tokenizer."""
    return model.scores or [-float(i) for i in range(model.vocab)]


def model_types(model: Llama) -> list[int]:
    """Token types: unknown, control, byte, normal."""
    kinds = [2, 3, 3] + [6] * 256
    return (kinds + [1] * model.vocab)[: model.vocab]


def stories260k(folder: Path) -> Llama:
    """The trained llama2.c model of the test data (legacy layout) with its vocabulary."""
    raw = (folder / "stories260K" / "stories260K.bin").read_bytes()
    width, ff, layers, heads, kv_heads, vocab, context = struct.unpack_from("<7i", raw)
    model = Llama(width, layers, heads, kv_heads, ff, vocab, context)
    floats = np.frombuffer(raw, "<f4", offset=28)
    at = 0

    def take(*shape: int) -> np.ndarray:
        nonlocal at
        count = int(np.prod(shape))
        at += count
        return floats[at - count : at].reshape(shape).copy()

    kv = kv_heads * (width // heads)
    t = model.tensors
    t["token_embd.weight"] = take(vocab, width)
    parts = {
        "attn_norm": (width,),
        "attn_q": (width, width),
        "attn_k": (kv, width),
        "attn_v": (kv, width),
        "attn_output": (width, width),
        "ffn_norm": (width,),
        "ffn_gate": (ff, width),
        "ffn_down": (width, ff),
        "ffn_up": (ff, width),
    }
    for part, shape in parts.items():
        for n, values in enumerate(take(layers, *shape)):
            t[f"blk.{n}.{part}.weight"] = values
    t["output_norm.weight"] = take(width)
    model.tokens, model.scores = llama2c_vocabulary(folder, vocab)
    return model


def llama2c_vocabulary(folder: Path, vocab: int) -> tuple[list[bytes], list[float]]:
    """Tokens (as SentencePiece writes them) and scores of tok512.bin."""
    raw = (folder / "stories260K" / "tok512.bin").read_bytes()
    at, tokens, scores = 4, [], []
    for i in range(vocab):
        score, length = struct.unpack_from("<fi", raw, at)
        text = raw[at + 8 : at + 8 + length]
        at += 8 + length
        if i < 3:
            text = (b"<unk>", b"<s>", b"</s>")[i]
        elif 3 <= i < 259:
            text = b"<0x%02X>" % (i - 3)
        else:
            text = text.replace(b" ", "\u2581".encode())
        tokens.append(text)
        scores.append(score)
    return tokens, scores


def encode_all(model: Llama, format: str) -> dict[str, tuple[str, np.ndarray]]:
    """Every matrix in one of ruvq's own formats, for `write`."""
    return {name: (format, encode(model.tensors[name], format)) for name in matrix_names(model)}


def encode(values: np.ndarray, format: str) -> np.ndarray:
    """Bytes (rows, row_bytes) of float32 rows, by the core's encoder."""
    backend = core.get()
    number = CONSTANTS["RQ_FORMAT_" + format.upper().replace("-", "_")]
    rows, width = values.shape
    row_bytes = backend.call("rq_format_row_bytes", number, width)
    values = np.ascontiguousarray(values, np.float32)
    with (
        backend.place(values) as weights,
        backend.alloc(rows * row_bytes) as out,
        backend.alloc(max(1, backend.call("rq_encode_scratch", number, width))) as scratch,
        backend.alloc(structs.size("rq_encode_options")) as options,
    ):
        where = (weights.address, 0, rows, width, out.address, scratch.address, scratch.end)
        backend.call("rq_encode", number, options.address, *where)
        return np.frombuffer(backend.read(out.address, out.nbytes), np.uint8).reshape(rows, row_bytes)


def with_vocabulary(model: Llama) -> Llama:
    """Gives a random model a vocabulary of letters behind the bytes, so that it can generate text."""
    assert model.vocab > 300
    letters = [chr(0x61 + i % 26) * (1 + i // 26) for i in range(model.vocab - 260)]
    model.tokens = [b"<unk>", b"<s>", b"</s>", *(b"<0x%02X>" % i for i in range(256))]
    model.tokens += [text.encode() for text in ["\u2581", *letters]]
    return model
