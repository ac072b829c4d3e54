"""The corpus of malformed and hostile GGUF files, by the class numbers of docs/container.md, and of unusual
but valid ones that must be accepted. One corpus for every host:

    python tests/gguf/attacks.py FOLDER

writes each case as a file, and index.json with what must happen: {"file", "attack", "stage", "code", "says"}.
`code` is null where the file must be accepted. `stage` is where the answer is given: "parse" (rq_gguf_parse),
"verify" (rq_gguf_check_header and rq_gguf_check_step) or "model" (rq_model_measure).
"""

from __future__ import annotations

import hashlib
import json
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from build_gguf import (
    ARRAY,
    BOOL,
    F32,
    F64,
    GGML_F16,
    GGML_I8,
    GGML_Q8_0,
    I32,
    QWEN2_TENSORS,
    QWEN3_TENSORS,
    STRING,
    U8,
    U16,
    U32,
    U64,
    array,
    gguf,
    info,
    kv,
    llama,
    pad,
    text,
    u32,
    u64,
)


@dataclass(frozen=True)
class Case:
    """One file and what must happen: an error code with `says` in its text, or None for acceptance."""

    name: str
    attack: int  # class number, 0 for none
    data: bytes
    code: str | None
    says: str = ""
    stage: str = "parse"


Generator = Callable[[], Iterator[Case]]
GENERATORS: list[Generator] = []


def generator(function: Generator) -> Generator:
    GENERATORS.append(function)
    return function


ONE = info("a", [8])  # one tensor of 8 floats
ONE_DATA = bytes(32)
VALID = gguf([kv("general.architecture", STRING, "llama"), kv("n", U32, 7)], [ONE], ONE_DATA)


def with_kvs(*kvs: bytes) -> bytes:
    return gguf(kvs)


def with_tensor(entry: bytes, data: bytes = ONE_DATA, kvs: tuple[bytes, ...] = ()) -> bytes:
    return gguf(kvs, [entry], data)


# ---- 1 and 2: truncation, header ----


@generator
def truncation() -> Iterator[Case]:
    yield Case("empty", 1, b"", "RQ_E_TRUNCATED", "cut short")
    yield Case("magic-only", 1, b"GGUF", "RQ_E_TRUNCATED")
    yield Case("header-only", 1, gguf(kv_count=1), "RQ_E_TRUNCATED", "metadata keys")
    yield Case("no-data", 1, VALID[:-32], "RQ_E_TRUNCATED", "a: ")


@generator
def header() -> Iterator[Case]:
    body = VALID[8:]
    yield Case("magic-wrong", 2, b"GGML" + VALID[4:], "RQ_E_MAGIC")
    yield Case("magic-swapped", 2, b"FUGG" + VALID[4:], "RQ_E_MAGIC", "big-endian")
    yield Case("magic-zero", 2, bytes(64), "RQ_E_MAGIC", "????")
    yield Case("html", 20, b"\n<!DOCTYPE html><html><body>404</body></html>", "RQ_E_MAGIC", "HTML")
    yield Case("html-bom", 20, b"\xef\xbb\xbf<HTML>", "RQ_E_MAGIC", "HTML")
    lfs = b"version https://git-lfs.github.com/spec/v1\n"
    yield Case("lfs-pointer", 20, lfs, "RQ_E_MAGIC", "Git LFS")
    yield Case("json-error", 20, b'{"error": "not found"}', "RQ_E_MAGIC", "JSON")
    yield Case("safetensors", 20, u64(2) + b'{"a": 1}', "RQ_E_MAGIC", "safetensors")
    yield Case("ggml-legacy", 20, b"tjgg" + VALID[4:], "RQ_E_MAGIC", "before GGUF")
    yield Case("zip", 20, b"PK\x03\x04" + bytes(40), "RQ_E_MAGIC", "PyTorch")
    for version, says in ((0, "damaged"), (1, "version 1"), (4, "newer"), (2**32 - 1, "newer")):
        yield Case(f"version-{version}", 2, b"GGUF" + u32(version) + body, "RQ_E_VERSION", says)
    yield Case("version-swapped", 2, b"GGUF" + struct.pack(">I", 3) + body, "RQ_E_VERSION", "big-endian")


# ---- 3: counts (and 18: the same where size_t has 32 bits) ----


@generator
def counts() -> Iterator[Case]:
    for count in (2**31, 2**32, 2**32 + 1, 2**63, 2**64 - 1, 65537):
        attack = 18 if count in (2**31, 2**32, 2**32 + 1) else 3
        yield Case(f"kv-count-{count}", attack, gguf(kv_count=count), "RQ_E_LIMIT", "metadata keys")
        yield Case(f"tensor-count-{count}", attack, gguf(tensor_count=count), "RQ_E_LIMIT", "tensors")
    yield Case("kv-count-beyond-file", 3, gguf(kv_count=65536), "RQ_E_TRUNCATED", "room")
    yield Case("tensor-count-beyond-file", 3, gguf(tensor_count=65536), "RQ_E_TRUNCATED", "room")
    # each fits alone, both don't
    both = gguf([kv("k", U64, 0)] * 1, kv_count=1, tensor_count=1)
    yield Case("counts-beyond-file-together", 3, both, "RQ_E_TRUNCATED")


# ---- 4 to 7: metadata ----


@generator
def strings() -> Iterator[Case]:
    for length in (2**64 - 1, 2**63, 2**32, 2**24 + 1):
        body = text("k") + u32(STRING) + text("abc", length)
        yield Case(f"string-length-{length}", 4, with_kvs(body), "RQ_E_LIMIT", "string")
        yield Case(f"key-length-{length}", 4, with_kvs(text("key", length) + bytes(16)), "RQ_E_LIMIT", "key")
    one_past = text("k") + u32(STRING) + text("abc", 4)
    yield Case("string-one-past-the-end", 4, with_kvs(one_past), "RQ_E_TRUNCATED", "cut short")
    bad = {
        "stray": b"a\x80", "short": b"\xc3", "overlong": b"\xc0\xaf", "overlong3": b"\xe0\x80\xaf",
        "surrogate": b"\xed\xa0\x80", "beyond": b"\xf4\x90\x80\x80", "nul": b"a\0b", "ff": b"\xff",
    }  # fmt: skip
    for name, raw in bad.items():
        yield Case(f"string-{name}", 4, with_kvs(kv("k", STRING, raw)), "RQ_E_STRING", "UTF-8")
        yield Case(f"key-{name}", 4, with_kvs(kv(raw, U32, 1)), "RQ_E_STRING", "UTF-8")
        yield Case(f"element-{name}", 4, with_kvs(array("k", STRING, ["ok", raw])), "RQ_E_STRING", "UTF-8")
        yield Case(f"name-{name}", 4, with_tensor(info(raw, [8])), "RQ_E_STRING", "UTF-8")


@generator
def keys() -> Iterator[Case]:
    yield Case("key-empty", 5, with_kvs(kv("", U32, 1)), "RQ_E_KEY", "empty")
    yield Case(
        "key-twice", 5, with_kvs(kv("a", U32, 1), kv("b", U32, 1), kv("a", U8, 1)), "RQ_E_KEY", "again"
    )
    yield Case("key-too-long", 5, with_kvs(kv("k" * 4097, U32, 1)), "RQ_E_LIMIT", "4096")


@generator
def values() -> Iterator[Case]:
    for kind in (13, 255, 2**31, 2**32 - 1):
        yield Case(f"value-type-{kind}", 6, with_kvs(text("k") + u32(kind) + bytes(16)), "RQ_E_VALUE", "type")
        of_kind = text("k") + u32(ARRAY) + u32(kind) + u64(1) + bytes(16)
        yield Case(f"element-type-{kind}", 6, with_kvs(of_kind), "RQ_E_VALUE", "unknown type")
    for count in (2**63, 2**64 - 1, 2**32, 2**31, 2**24 + 1):
        attack = 18 if count in (2**31, 2**32) else 6
        yield Case(
            f"array-count-{count}", attack, with_kvs(array("k", U8, [1], count)), "RQ_E_LIMIT", "elements"
        )
        yield Case(f"strings-count-{count}", attack, with_kvs(array("k", STRING, ["a"], count)), "RQ_E_LIMIT")
    # 2^61 eight-byte elements are 2^64 bytes
    yield Case("array-bytes-wrap", 6, with_kvs(array("k", U64, [1], 2**61)), "RQ_E_LIMIT")
    yield Case("array-bytes-beyond-file", 6, with_kvs(array("k", U64, [1], 2**20)), "RQ_E_TRUNCATED")
    yield Case("strings-beyond-file", 6, with_kvs(array("k", STRING, ["a"] * 4, 2**20)), "RQ_E_TRUNCATED")
    nested = b"".join(u32(ARRAY) + u64(1) for _ in range(256)) + u32(U8) + u64(1) + b"\1"
    yield Case(
        "arrays-nested-256-deep",
        6,
        with_kvs(text("k") + u32(ARRAY) + nested),
        "RQ_E_VALUE",
        "array of arrays",
    )
    yield Case("bool-2", 6, with_kvs(kv("k", BOOL, 2)), "RQ_E_VALUE", "bool")
    yield Case("bool-array-255", 6, with_kvs(array("k", BOOL, [0, 1, 255])), "RQ_E_VALUE", "bool")


@generator
def alignments() -> Iterator[Case]:
    for value in (0, 1, 4, 13, 48, 2**17, 2**31, 2**32 - 1):
        data = gguf([kv("general.alignment", U32, value)], [ONE], ONE_DATA)
        yield Case(f"alignment-{value}", 7, data, "RQ_E_ALIGNMENT", "power of two")
    for name, kind in (("u64", U64), ("i32", I32), ("u16", U16), ("f32", F32)):
        data = gguf([kv("general.alignment", kind, 32)], [ONE], ONE_DATA)
        yield Case(f"alignment-{name}", 7, data, "RQ_E_ALIGNMENT", name)
    data = gguf([kv("general.alignment", STRING, "32")], [ONE], ONE_DATA)
    yield Case("alignment-string", 7, data, "RQ_E_ALIGNMENT", "string")


# ---- 8 to 11: tensor entries ----


@generator
def names() -> Iterator[Case]:
    yield Case("name-empty", 8, with_tensor(info("", [8])), "RQ_E_NAME", "1 to 127")
    yield Case("name-too-long", 8, with_tensor(info("n" * 128, [8])), "RQ_E_NAME", "128")
    yield Case("name-length-huge", 8, with_tensor(text("a", 2**63) + bytes(32)), "RQ_E_NAME")
    twice = gguf([], [info("a", [8]), info("a", [8], offset=32)], bytes(64))
    yield Case("name-twice", 8, twice, "RQ_E_NAME", "tensors 0 and 1")


@generator
def dimensions() -> Iterator[Case]:
    for n_dims in (5, 10**6, 2**31, 2**32 - 1):
        entry = info("a", [1] * 5, n_dims=n_dims)
        yield Case(f"n-dims-{n_dims}", 9, with_tensor(entry), "RQ_E_SHAPE", "dimensions")
    shapes = {
        "zero": [0], "zero-inner": [8, 0, 2], "negative": [2**64 - 1], "int64-min": [8, 2**63],
        "wraps-64": [4194305, 4194305, 211106198978564], "wraps-to-zero": [2**32, 2**32],
        "wraps-63": [2**32, 2**31],
    }  # fmt: skip
    for name, dims in shapes.items():
        yield Case(f"dims-{name}", 9, with_tensor(info("a", dims)), "RQ_E_SHAPE", "2^63")
    # fits 64 bits as a number of weights, wraps where size_t has 32
    wrap32 = {"65536x65536": [65536, 65536], "2^30": [2**30], "2^32+8": [2**32 + 8], "2^31": [2**31]}
    for name, dims in wrap32.items():
        yield Case(f"dims32-{name}", 18, with_tensor(info("a", dims)), "RQ_E_TRUNCATED", "bytes of data")


@generator
def types() -> Iterator[Case]:
    for kind in (43, 100, 2**31 - 1, 2**31, 2**32 - 1):
        yield Case(f"type-{kind}", 10, with_tensor(info("a", [256], kind)), "RQ_E_TYPE", "damaged")
    for kind in (4, 5, 31, 32, 33, 36, 37, 38):
        yield Case(f"type-removed-{kind}", 10, with_tensor(info("a", [256], kind)), "RQ_E_TYPE", "removed")
    nvfp4 = with_tensor(info("a", [256], 40), bytes(160))
    yield Case("id-40-upstream", 10, nvfp4, None)
    yield Case("id-41-upstream", 10, with_tensor(info("a", [256], 41), bytes(64)), None)
    yield Case("id-42-upstream", 10, with_tensor(info("a", [256], 42), bytes(96)), None)
    ruvllm = (kv("ruvq.type_namespace", STRING, "ruvllm"),)
    yield Case("id-40-ruvllm", 10, with_tensor(info("a", [256], 40), bytes(128), ruvllm), None)
    yield Case("id-41-ruvllm", 10, with_tensor(info("a", [256], 41), bytes(96), ruvllm), None)
    # 98 bytes in the one meaning, 144 in the other
    short = with_tensor(info("a", [256], 40), bytes(128))
    yield Case("id-40-ruvllm-without-its-key", 10, short, "RQ_E_TRUNCATED")
    narrow = with_tensor(info("a", [64], 40), bytes(64), ruvllm)
    yield Case("id-40-ruvllm-width-64", 11, narrow, "RQ_E_SHAPE", "256")
    other = (kv("ruvq.type_namespace", STRING, "other"),)
    yield Case(
        "namespace-unknown", 10, with_tensor(info("a", [256], 40), bytes(160), other), "RQ_E_LAYOUT", "other"
    )
    number = (kv("ruvq.type_namespace", U32, 1),)
    yield Case(
        "namespace-number", 10, with_tensor(info("a", [256], 40), bytes(160), number), "RQ_E_LAYOUT", "u32"
    )


@generator
def rows() -> Iterator[Case]:
    for kind, width in ((GGML_Q8_0, 33), (GGML_Q8_0, 8), (12, 32), (20, 16), (41, 64)):
        entry = info("a", [width, 2], kind)
        yield Case(f"row-{kind}-{width}", 11, with_tensor(entry), "RQ_E_SHAPE", "whole blocks")
    huge = info("a", [2**20, 2**20, 2**20], 28)
    yield Case("bytes-wrap", 11, with_tensor(huge), "RQ_E_SHAPE", "blocks")


# ---- 12 and 13: places and totals ----


def two(second: int, data: bytes, first: int = 0, dims: int = 8) -> bytes:
    """Two tensors; the first takes 32 bytes, or 36 with dims=9."""
    return gguf([], [info("a", [dims], offset=first), info("b", [8], offset=second)], data)


@generator
def offsets() -> Iterator[Case]:
    yield Case("offset-minus-one", 12, two(2**64 - 1, bytes(64)), "RQ_E_OFFSET", "b: ")
    yield Case("offset-unaligned", 12, two(36, bytes(96), dims=9), "RQ_E_OFFSET", "64")
    yield Case("offset-overlap", 12, two(0, bytes(64)), "RQ_E_OFFSET", "32")
    yield Case("offset-gap", 12, two(64, bytes(96)), "RQ_E_OFFSET", "gap")
    yield Case("offset-past-the-end", 12, two(2**40, bytes(64)), "RQ_E_OFFSET")
    yield Case("offset-first-not-zero", 12, two(64, bytes(96), first=32), "RQ_E_OFFSET", "a: ")
    yield Case("offset-swapped", 12, two(0, bytes(64), first=32), "RQ_E_OFFSET")
    for offset in (2**31, 2**32, 2**32 + 32):
        yield Case(f"offset32-{offset}", 18, two(offset, bytes(64)), "RQ_E_OFFSET")


@generator
def totals() -> Iterator[Case]:
    vast = 0x7FFFFFFFFFFFFFC0
    entries = [info("a", [vast], GGML_I8), info("b", [vast], GGML_I8, vast)]
    yield Case("two-of-2^63", 13, gguf([], entries, bytes(64)), "RQ_E_SHAPE", str(vast))
    padding = [info("a", [2**63 - 1], GGML_I8), info("b", [8], GGML_I8, 0)]
    yield Case("padding-overflows", 12, gguf([], padding, bytes(64)), "RQ_E_SHAPE", "blocks")
    large = [info("a", [2**48 - 1], GGML_I8), info("b", [2**48 - 1], GGML_I8, 2**48)]
    yield Case("two-of-2^48", 13, gguf([], large, bytes(64)), "RQ_E_TRUNCATED", "bytes of data")
    for bytes_ in (2**31, 2**32, 2**32 + 32):
        half = [info("a", [bytes_], GGML_I8), info("b", [bytes_], GGML_I8, bytes_)]
        yield Case(f"two-of-{bytes_}", 18, gguf([], half, bytes(64)), "RQ_E_TRUNCATED", str(bytes_))
    yield Case("larger-than-the-file", 13, with_tensor(info("a", [9])), "RQ_E_TRUNCATED", "36 bytes")
    yield Case("last-byte-missing", 13, VALID[:-1], "RQ_E_TRUNCATED", "a: ")
    yield Case("bytes-behind-the-end", 13, VALID + b"\0", "RQ_E_OFFSET", "appended")
    yield Case("page-behind-the-end", 13, VALID + b"<html>" * 10, "RQ_E_OFFSET", "appended")
    yield Case("bytes-behind-metadata", 13, with_kvs(kv("n", U32, 7)) + bytes(64), "RQ_E_OFFSET", "appended")


# ---- 10: ruvq's own layout ----


def own(
    rows: int = 2,
    row_bytes: int = 98,
    version: bytes | None = None,
    names: list[object] | None = None,
    formats: list[object] | None = None,
    widths: list[object] | None = None,
    kind: int = GGML_I8,
    extra: tuple[bytes, ...] = (),
    width_type: int = U32,
    data: bytes | None = None,
) -> bytes:
    """A file with one tensor "a" in ruvq's own formats, or nearly so."""
    kvs = [
        kv("ruvq.layout_version", U32, 1) if version is None else version,
        array("ruvq.tensor.names", STRING, ["a"] if names is None else names),
        array("ruvq.tensor.formats", STRING, ["pi-t3"] if formats is None else formats),
        array("ruvq.tensor.widths", width_type, [256] if widths is None else widths),
        *extra,
    ]
    body = bytes(row_bytes * rows) if data is None else data
    return gguf([k for k in kvs if k], [info("a", [row_bytes, rows], kind)], pad(body))


@generator
def layout() -> Iterator[Case]:
    v = "ruvq.layout_version"
    yield Case(
        "layout-2", 10, own(version=kv(v, U32, 2)), "RQ_E_LAYOUT", "needs layout version 2, this is 1: update"
    )
    yield Case(
        "layout-max", 10, own(version=kv(v, U32, 2**32 - 1)), "RQ_E_LAYOUT", "needs layout version 4294967295"
    )
    yield Case("layout-0", 10, own(version=kv(v, U32, 0)), "RQ_E_LAYOUT", "from 1")
    yield Case("layout-u64", 10, own(version=kv(v, U64, 1)), "RQ_E_LAYOUT", "u64")
    yield Case("layout-missing", 10, own(version=b""), "RQ_E_LAYOUT", "no such key")
    alone = gguf([kv(v, U32, 1), array("ruvq.tensor.names", STRING, ["a"])], [ONE], ONE_DATA)
    yield Case("layout-arrays-missing", 10, alone, "RQ_E_LAYOUT", "ruvq.tensor.formats")
    yield Case("layout-lengths-differ", 10, own(widths=[256, 256]), "RQ_E_LAYOUT", "equal length")
    yield Case("layout-name-unknown", 10, own(names=["b"]), "RQ_E_LAYOUT", "no such tensor")
    twice = own(names=["a", "a"], formats=["pi-t3"] * 2, widths=[256, 256])
    yield Case("layout-name-twice", 10, twice, "RQ_E_LAYOUT", "again")
    yield Case("layout-name-empty", 10, own(names=[""]), "RQ_E_LAYOUT", "no such tensor")
    for name in ("pi-t9", "", "PI-T3", "q8_0", "pi-q3-ruvllm", "pi-t3 ", "f32"):
        yield Case(
            f"layout-format-{name.strip()}{len(name)}", 10, own(formats=[name]), "RQ_E_LAYOUT", "own formats"
        )
    yield Case("layout-not-i8", 10, own(kind=25, data=bytes(2 * 2 * 98)), "RQ_E_LAYOUT", "I16")
    for width in (0, 192, 257, 512, 2**32 - 1):
        yield Case(f"layout-width-{width}", 10, own(widths=[width]), "RQ_E_LAYOUT", "rows as long as")
    yield Case(
        "layout-width-negative", 10, own(widths=[-256], width_type=I32), "RQ_E_LAYOUT", "positive integers"
    )
    yield Case(
        "layout-width-float", 10, own(widths=[256.0], width_type=F32), "RQ_E_LAYOUT", "positive integers"
    )
    wide = own(widths=[2**64 - 256], width_type=U64)
    yield Case("layout-width-2^64", 10, wide, "RQ_E_LAYOUT", "rows as long as")
    yield Case("layout-row-short", 10, own(row_bytes=97), "RQ_E_LAYOUT", "97 bytes")
    yield Case("layout-ok", 0, own(), None)
    yield Case("layout-ok-i32-widths", 0, own(width_type=I32), None)
    yield Case("layout-ok-tail", 0, own(row_bytes=26, widths=[64]), None)


# ---- 14: hyper-parameters ----


@generator
def hyperparameters() -> Iterator[Case]:
    p = "llama."
    bad: dict[str, tuple[str, tuple[int, object] | None, str]] = {
        "block-count-0": ("block_count", (U32, 0), "RQ_E_HYPERPARAMETER"),
        "block-count-513": ("block_count", (U32, 513), "RQ_E_HYPERPARAMETER"),
        "block-count-max": ("block_count", (U32, 2**32 - 1), "RQ_E_HYPERPARAMETER"),
        "block-count-u64": ("block_count", (U64, 2**32 + 1), "RQ_E_VALUE"),
        "block-count-string": ("block_count", (STRING, "1"), "RQ_E_VALUE"),
        "block-count-float": ("block_count", (F32, 1.0), "RQ_E_VALUE"),
        "block-count-missing": ("block_count", None, "RQ_E_HYPERPARAMETER"),
        "block-count-2": ("block_count", (U32, 2), "RQ_E_TENSOR"),
        "heads-0": ("attention.head_count", (U32, 0), "RQ_E_HYPERPARAMETER"),
        "heads-5": ("attention.head_count", (U32, 5), "RQ_E_HYPERPARAMETER"),
        "heads-negative": ("attention.head_count", (I32, -4), "RQ_E_VALUE"),
        "kv-heads-0": ("attention.head_count_kv", (U32, 0), "RQ_E_HYPERPARAMETER"),
        "kv-heads-3": ("attention.head_count_kv", (U32, 3), "RQ_E_HYPERPARAMETER"),
        "rope-above-head": ("rope.dimension_count", (U32, 10), "RQ_E_HYPERPARAMETER"),
        "rope-odd": ("rope.dimension_count", (U32, 7), "RQ_E_HYPERPARAMETER"),
        "context-0": ("context_length", (U32, 0), "RQ_E_HYPERPARAMETER"),
        "context-2^31": ("context_length", (U32, 2**31), "RQ_E_HYPERPARAMETER"),
        "width-0": ("embedding_length", (U32, 0), "RQ_E_HYPERPARAMETER"),
        "width-other": ("embedding_length", (U32, 64), "RQ_E_TENSOR"),
        "ff-0": ("feed_forward_length", (U32, 0), "RQ_E_HYPERPARAMETER"),
        "ff-other": ("feed_forward_length", (U32, 96), "RQ_E_TENSOR"),
        "epsilon-0": ("attention.layer_norm_rms_epsilon", (F32, 0.0), "RQ_E_HYPERPARAMETER"),
        "epsilon-nan": ("attention.layer_norm_rms_epsilon", (F32, float("nan")), "RQ_E_VALUE"),
        "epsilon-infinite": ("attention.layer_norm_rms_epsilon", (F64, 1e300), "RQ_E_VALUE"),
        "rope-base-0": ("rope.freq_base", (F32, 0.0), "RQ_E_HYPERPARAMETER"),
        "rope-base-negative": ("rope.freq_base", (F32, -1.0), "RQ_E_HYPERPARAMETER"),
        "experts": ("expert_count", (U32, 8), "RQ_E_HYPERPARAMETER"),
    }
    for name, (key, typed, code) in bad.items():
        yield Case(f"hyper-{name}", 14, llama({p + key: typed}), code, stage="model")
    other = llama().replace(text("llama"), text("xlstm"), 1)
    yield Case("architecture-unknown", 14, other, "RQ_E_ARCHITECTURE", "xlstm", "model")
    yield Case("model-ok", 0, llama(), None, stage="model")


@generator
def architectures() -> Iterator[Case]:
    """The architectures beside llama: complete, and with parts missing or of another shape."""
    yield Case("model-ok-qwen2", 0, llama(architecture="qwen2", own=QWEN2_TENSORS), None, stage="model")
    yield Case("model-ok-qwen3", 0, llama(architecture="qwen3", own=QWEN3_TENSORS), None, stage="model")
    yield Case(
        "model-ok-qwen3-biases",
        0,
        llama(architecture="qwen3", own=QWEN3_TENSORS | QWEN2_TENSORS),
        None,
        stage="model",
    )
    wide = dict.fromkeys(QWEN3_TENSORS, (9,))
    bad: dict[str, tuple[str, dict[str, tuple[int, ...]], str]] = {
        "qwen2-without-biases": ("qwen2", {}, "attn_q.bias"),
        "qwen2-bias-of-another-width": ("qwen2", QWEN2_TENSORS | {"blk.0.attn_v.bias": (32,)}, "attn_v.bias"),
        "qwen3-without-norms-of-heads": ("qwen3", {}, "attn_q_norm"),
        "qwen3-norms-of-another-width": ("qwen3", wide, "attn_q_norm"),
    }
    for name, (architecture, own_tensors, says) in bad.items():
        data = llama(architecture=architecture, own=own_tensors)
        yield Case(name, 14, data, "RQ_E_TENSOR", says, "model")
    other = llama(architecture="qwen3", own=QWEN3_TENSORS).replace(text("qwen3"), text("qwen2"), 1)
    yield Case("qwen2-with-keys-of-qwen3", 14, other, "RQ_E_HYPERPARAMETER", "qwen2.", "model")


# ---- 19: data ----

NAN16, INF16, NAN32 = b"\x00\x7e", b"\x00\x7c", struct.pack("<f", float("nan"))


def digests(data: bytes, header: bool, tensors: bool, wrong: str = "") -> bytes:
    """One tensor "a" with its digests; `wrong` names the one that is spoiled."""
    sha = hashlib.sha256(data).hexdigest()
    if wrong == "tensor":
        sha = hashlib.sha256(b"other").hexdigest()
    kvs = [array("ruvq.sha256.tensors", STRING, [sha])] if tensors else []
    if header:
        kvs.append(kv("ruvq.sha256.header", STRING, "0" * 64))
    file = gguf(kvs, [info("a", [len(data) // 4])], pad(data))
    if header:
        start = len(file) - len(pad(data))
        whole = hashlib.sha256(file[:start]).hexdigest()
        if wrong == "header":
            whole = "f" * 64
        file = file.replace(b"0" * 64, whole.encode(), 1)
    return file


@generator
def data() -> Iterator[Case]:
    floats = struct.pack("<8f", *range(8))
    spoiled = {
        "f32-nan": with_tensor(info("a", [8]), floats[:28] + NAN32),
        "f32-infinity": with_tensor(
            info("a", [4, 2]), struct.pack("<8f", *[1.0] * 4, float("inf"), *[1.0] * 3)
        ),
        "f16-nan": with_tensor(info("a", [16], GGML_F16), bytes(30) + NAN16),
        "f16-infinity": with_tensor(info("a", [16], GGML_F16), bytes(16) + INF16 + bytes(14)),
        "bf16-nan": with_tensor(info("a", [16], 30), bytes(30) + b"\xc0\x7f"),
        "q8_0-scale-nan": with_tensor(info("a", [32], GGML_Q8_0), NAN16 + bytes(62)),
        "q8_0-scale-infinity": with_tensor(info("a", [64], GGML_Q8_0), bytes(34) + INF16 + bytes(60)),
        "pi-q3-scale-nan": own(formats=["pi-q3"], data=bytes(98 + 96) + NAN16),
        "pi-q2-scale-infinity": own(row_bytes=66, formats=["pi-q2"], data=bytes(64) + INF16 + bytes(66)),
        "pi-t3-alpha-248": own(data=bytes(96) + b"\xf8\0" + bytes(98)),
        "pi-t2-alpha-255": own(row_bytes=66, formats=["pi-t2"], data=bytes(66 + 64) + b"\xff\0"),
        "ternary-code-3": own(row_bytes=66, formats=["ternary"], data=b"\x03" + bytes(131)),
        "ternary-gamma-negative": own(
            row_bytes=66, formats=["ternary"], data=bytes(64) + b"\x00\xbc" + bytes(66)
        ),
    }
    for name, file in spoiled.items():
        yield Case(f"data-{name}", 19, file, "RQ_E_DATA", "a", "verify")
    key = "ruvq.sha256.tensors"
    i, where = "RQ_E_INTEGRITY", "verify"
    yield Case("digest-tensor-differs", 19, digests(floats, False, True, "tensor"), i, "a: ", where)
    yield Case(
        "digest-header-differs", 19, digests(floats, True, True, "header"), i, "ruvq.sha256.header", where
    )
    changed = bytearray(digests(floats, True, True))
    changed[-1] ^= 1
    yield Case("digest-data-changed", 19, bytes(changed), i, "a: ", where)
    padded = bytearray(digests(floats[:4], True, True))
    padded[-1] = 1
    yield Case("digest-padding-changed", 19, bytes(padded), i, "padding", where)
    yield Case(
        "digest-count", 19, gguf([array(key, STRING, ["0" * 64] * 2)], [ONE], ONE_DATA), i, "one for each"
    )
    yield Case("digest-short", 19, gguf([array(key, STRING, ["0" * 63])], [ONE], ONE_DATA), i, "64")
    yield Case("digest-upper-case", 19, gguf([array(key, STRING, ["A" * 64])], [ONE], ONE_DATA), i, "64")
    yield Case("digest-number", 19, gguf([kv("ruvq.sha256.header", U32, 1)], [ONE], ONE_DATA), i, "64")
    yield Case("digest-ok", 0, digests(floats, True, True), None, stage=where)
    yield Case("digest-ok-padding", 0, digests(floats[:4], True, True), None, stage=where)


# ---- what must not be refused ----


@generator
def unusual_but_valid() -> Iterator[Case]:
    """Beside each class, the nearest file that is right."""
    all_scalars = [kv(f"k{kind}", kind, 1) for kind in range(13) if kind not in (STRING, ARRAY)]
    yield Case("ok-empty", 0, gguf(), None)
    yield Case("ok-version-2", 0, b"GGUF" + u32(2) + VALID[8:], None)
    yield Case("ok-all-types", 0, with_kvs(*all_scalars, kv("s", STRING, "")), None)
    yield Case(
        "ok-all-arrays", 0, with_kvs(*(array(f"k{k}", k, [1, 0]) for k in range(13) if k not in (8, 9))), None
    )
    yield Case("ok-empty-arrays", 0, with_kvs(array("k", U8, []), array("s", STRING, [])), None)
    yield Case("ok-unicode", 0, with_kvs(kv("ключ", STRING, "\x01 é € 😀 \U0010ffff \ud7ff \ue000")), None)
    yield Case("ok-key-4096", 0, with_kvs(kv("k" * 4096, U32, 1)), None)
    yield Case("ok-name-127", 0, with_tensor(info("n" * 127, [8])), None)
    yield Case("ok-1000-keys", 0, with_kvs(*(kv(f"key.{i}", U32, i) for i in range(1000))), None)
    many = [info(f"t{i}", [8], offset=32 * i) for i in range(1000)]
    yield Case("ok-1000-tensors", 0, gguf([], many, bytes(32000)), None)
    yield Case("ok-scalar-tensor", 0, with_tensor(info("a", []), bytes(32)), None)
    yield Case("ok-4-dims", 0, with_tensor(info("a", [2, 2, 2, 1])), None)
    yield Case("ok-no-padding-at-the-end", 0, gguf([], [info("a", [9])], bytes(36)), None)
    yield Case("ok-padding-at-the-end", 0, gguf([], [info("a", [9])], bytes(64)), None)
    yield Case("ok-padding-behind-metadata", 0, pad(with_kvs(kv("n", U32, 7))), None)
    for alignment in (8, 16, 64, 65536):
        kvs = [kv("general.alignment", U32, alignment)]
        entries = [info("a", [2]), info("b", [2], offset=alignment)]
        data = bytes(alignment) + bytes(8)
        yield Case(f"ok-alignment-{alignment}", 0, gguf(kvs, entries, data, alignment=alignment), None)
    sizes = {0: (1, 4), 2: (32, 18), 12: (256, 144), 20: (32, 18), 28: (1, 8), 35: (256, 66), 39: (32, 17)}
    for kind, (weights, size) in sizes.items():
        yield Case(f"ok-type-{kind}", 0, with_tensor(info("a", [weights, 3], kind), bytes(3 * size)), None)
    yield Case("ok-i8-of-somebody-else", 0, with_tensor(info("a", [7, 3], GGML_I8), bytes(21)), None)


def corpus() -> list[Case]:
    """Every case, names unique."""
    cases = [case for generate in GENERATORS for case in generate()]
    names = [case.name for case in cases]
    assert len(set(names)) == len(names), sorted(n for n in names if names.count(n) > 1)
    return cases


def write_corpus(folder: Path) -> None:
    """Files and index.json, for hosts that don't run Python's tests."""
    folder.mkdir(parents=True, exist_ok=True)
    index = []
    for case in corpus():
        file = case.name + ".gguf"
        (folder / file).write_bytes(case.data)
        entry = {
            "file": file,
            "attack": case.attack,
            "stage": case.stage,
            "code": case.code,
            "says": case.says,
        }
        index.append(entry)
    (folder / "index.json").write_text(json.dumps(index, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    write_corpus(Path(sys.argv[1]))
