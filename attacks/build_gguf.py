"""Builds GGUF files byte by byte, wrong ones too, after the specification; shares no code with ruvq."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
GGML_F32, GGML_F16, GGML_Q8_0, GGML_I8 = 0, 1, 8, 24
_CODES = {
    U8: "B",
    I8: "b",
    U16: "H",
    I16: "h",
    U32: "I",
    I32: "i",
    F32: "f",
    BOOL: "B",
    U64: "Q",
    I64: "q",
    F64: "d",
}


def u32(n: int) -> bytes:
    return struct.pack("<I", n % 2**32)


def u64(n: int) -> bytes:
    return struct.pack("<Q", n % 2**64)


def text(value: str | bytes, length: int | None = None) -> bytes:
    """A string with its length, or with a length that lies."""
    raw = value.encode() if isinstance(value, str) else value
    return u64(len(raw) if length is None else length) + raw


def value(kind: int, item: object) -> bytes:
    """A value without its type."""
    if kind == STRING:
        return text(item)  # type: ignore[arg-type]
    return struct.pack("<" + _CODES[kind], item)


def kv(key: str | bytes, kind: int, item: object) -> bytes:
    """A scalar or string with its key."""
    return text(key) + u32(kind) + value(kind, item)


def array(key: str, kind: int, items: Sequence[object], count: int | None = None) -> bytes:
    """An array with its key, with a count that may lie."""
    body = b"".join(value(kind, item) for item in items)
    return text(key) + u32(ARRAY) + u32(kind) + u64(len(items) if count is None else count) + body


def info(
    name: str | bytes, dims: Sequence[int], kind: int = GGML_F32, offset: int = 0, n_dims: int | None = None
) -> bytes:
    """A tensor's entry."""
    count = u32(len(dims) if n_dims is None else n_dims)
    return text(name) + count + b"".join(map(u64, dims)) + u32(kind) + u64(offset)


def pad(data: bytes, alignment: int = 32) -> bytes:
    return data + bytes(-len(data) % alignment)


def gguf(
    kvs: Iterable[bytes] = (),
    infos: Iterable[bytes] = (),
    data: bytes = b"",
    *,
    magic: bytes = b"GGUF",
    version: int | bytes = 3,
    tensor_count: int | None = None,
    kv_count: int | None = None,
    alignment: int = 32,
) -> bytes:
    """A file; counts default to the truth, and the header is padded when there are tensors."""
    kvs, infos = list(kvs), list(infos)
    head = magic + (version if isinstance(version, bytes) else u32(version))
    head += u64(len(infos) if tensor_count is None else tensor_count)
    head += u64(len(kvs) if kv_count is None else kv_count)
    head += b"".join(kvs) + b"".join(infos)
    return (pad(head, alignment) if infos else head) + data


# ---- a small llama model, complete and valid ----

LLAMA = {
    "llama.context_length": (U32, 64),
    "llama.embedding_length": (U32, 32),
    "llama.block_count": (U32, 1),
    "llama.feed_forward_length": (U32, 64),
    "llama.attention.head_count": (U32, 4),
    "llama.attention.head_count_kv": (U32, 2),
    "llama.attention.layer_norm_rms_epsilon": (F32, 1e-5),
    "llama.rope.dimension_count": (U32, 8),
    "llama.vocab_size": (U32, 259),
}


def llama_vocabulary() -> list[bytes]:
    """SentencePiece with three control tokens and the 256 bytes."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256))]
    return [
        kv("tokenizer.ggml.model", STRING, "llama"),
        array("tokenizer.ggml.tokens", STRING, tokens),
        array("tokenizer.ggml.scores", F32, [0.0] * len(tokens)),
        array("tokenizer.ggml.token_type", I32, [2, 3, 3] + [6] * 256),
        kv("tokenizer.ggml.bos_token_id", U32, 1),
        kv("tokenizer.ggml.eos_token_id", U32, 2),
        kv("tokenizer.ggml.unknown_token_id", U32, 0),
    ]


def llama_tensors(
    width: int = 32, ff: int = 64, kv_width: int = 16, vocab: int = 259
) -> dict[str, tuple[int, ...]]:
    """Names and dimensions (innermost first) of a model with one layer."""
    return {
        "token_embd.weight": (width, vocab),
        "blk.0.attn_norm.weight": (width,),
        "blk.0.attn_q.weight": (width, width),
        "blk.0.attn_k.weight": (width, kv_width),
        "blk.0.attn_v.weight": (width, kv_width),
        "blk.0.attn_output.weight": (width, width),
        "blk.0.ffn_norm.weight": (width,),
        "blk.0.ffn_gate.weight": (width, ff),
        "blk.0.ffn_up.weight": (width, ff),
        "blk.0.ffn_down.weight": (ff, width),
        "output_norm.weight": (width,),
    }


# what the others have beside it, in every layer
QWEN2_TENSORS: dict[str, tuple[int, ...]] = {
    "blk.0.attn_q.bias": (32,),
    "blk.0.attn_k.bias": (16,),
    "blk.0.attn_v.bias": (16,),
}
QWEN3_TENSORS: dict[str, tuple[int, ...]] = {
    "blk.0.attn_q_norm.weight": (8,),
    "blk.0.attn_k_norm.weight": (8,),
}


def llama_keys(
    change: dict[str, tuple[int, object] | None] | None = None,
    architecture: str = "llama",
    vocabulary: list[bytes] | None = None,
) -> list[bytes]:
    """The small model's metadata; see `llama`."""
    parameters = {**LLAMA, **(change or {})}
    kvs = [kv("general.architecture", STRING, architecture)]
    for key, typed in parameters.items():
        if typed is not None:
            kvs.append(kv(key.replace("llama.", f"{architecture}.", 1), *typed))
    return [*kvs, *(llama_vocabulary() if vocabulary is None else vocabulary)]


Tensor = tuple[str, tuple[int, ...], bytes]  # name, dimensions, F32 data


def llama_weights(own: dict[str, tuple[int, ...]] | None = None) -> list[Tensor]:
    """The small model's tensors: nothing special, and never NaN."""
    tensors = []
    for i, (name, dims) in enumerate((llama_tensors() | (own or {})).items()):
        count = dims[0] * (dims[1] if len(dims) > 1 else 1)
        floats = [((i * 7 + j * 13) % 29 - 14) / 64 for j in range(count)]
        tensors.append((name, dims, struct.pack(f"<{count}f", *floats)))
    return tensors


def with_weights(kvs: Iterable[bytes], tensors: Iterable[Tensor]) -> bytes:
    """A file of metadata and tensors, one behind the other."""
    infos, body = [], b""
    for name, dims, data in tensors:
        infos.append(info(name, dims, GGML_F32, len(body)))
        body += pad(data)
    return gguf(kvs, infos, body)


def llama(
    change: dict[str, tuple[int, object] | None] | None = None,
    extra: Iterable[bytes] = (),
    architecture: str = "llama",
    own: dict[str, tuple[int, ...]] | None = None,
    vocabulary: list[bytes] | None = None,
    nan: bool = False,
) -> bytes:
    """The small model; `change` replaces hyper-parameters, or leaves them out where the value is None. Under
    another architecture's name the keys have its prefix, and `own` tensors are added. `vocabulary` replaces
    its keys; `nan` puts one NaN into the last tensor."""
    tensors = llama_weights(own)
    if nan:
        name, dims, data = tensors[-1]
        tensors[-1] = (name, dims, data[:-4] + struct.pack("<f", float("nan")))
    return with_weights([*llama_keys(change, architecture, vocabulary), *extra], tensors)


# ---- a small LoRA adapter, complete and valid ----


def lora(
    pairs: dict[str, tuple[int, int, int]] | None = None, kind: int = GGML_F32, alpha: float = 4.0
) -> bytes:
    """An adapter of a llama. `pairs`: matrix -> (its width, its rows, the rank); `kind`: F32 or F16."""
    infos, offset = [], 0
    for name, (width, rows, rank) in (pairs or {"blk.0.attn_k.weight": (16, 8, 2)}).items():
        for part, dims in (("a", (width, rank)), ("b", (rank, rows))):
            infos.append(info(f"{name}.lora_{part}", dims, kind, offset))
            offset += -(-dims[0] * dims[1] * (4 if kind == GGML_F32 else 2) // 32) * 32
    kvs = [
        kv("general.type", STRING, "adapter"),
        kv("adapter.type", STRING, "lora"),
        kv("general.architecture", STRING, "llama"),
        kv("adapter.lora.alpha", F32, alpha),
    ]
    return gguf(kvs, infos, struct.pack("<f", 0.5) * (offset // 4))
