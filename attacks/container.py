"""Classes 1 to 13, 18 and what a first look at 20 sees: GGUF files that are wrong before any tensor is
read."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from attacks.build_gguf import (
    ARRAY,
    BOOL,
    F32,
    GGML_I8,
    GGML_Q8_0,
    I32,
    STRING,
    U8,
    U16,
    U32,
    U64,
    array,
    gguf,
    info,
    kv,
    pad,
    text,
    u32,
    u64,
)
from attacks.case import Case

ONE = info("a", [8])  # one tensor of 8 floats
ONE_DATA = bytes(32)
VALID = gguf([kv("general.architecture", STRING, "llama"), kv("n", U32, 7)], [ONE], ONE_DATA)


def with_kvs(*kvs: bytes) -> bytes:
    return gguf(kvs)


def with_tensor(entry: bytes, data: bytes = ONE_DATA, kvs: tuple[bytes, ...] = ()) -> bytes:
    return gguf(kvs, [entry], data)


# ---- 1 and 2: truncation, header ----


def truncation() -> Iterator[Case]:
    yield Case("empty", 1, b"", "RQ_E_TRUNCATED", "cut short")
    yield Case("magic-only", 1, b"GGUF", "RQ_E_TRUNCATED")
    yield Case("header-only", 1, gguf(kv_count=1), "RQ_E_TRUNCATED", "metadata keys")
    yield Case("no-data", 1, VALID[:-32], "RQ_E_TRUNCATED", "a: ")


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


def keys() -> Iterator[Case]:
    yield Case("key-empty", 5, with_kvs(kv("", U32, 1)), "RQ_E_KEY", "empty")
    yield Case(
        "key-twice", 5, with_kvs(kv("a", U32, 1), kv("b", U32, 1), kv("a", U8, 1)), "RQ_E_KEY", "again"
    )
    yield Case("key-too-long", 5, with_kvs(kv("k" * 4097, U32, 1)), "RQ_E_LIMIT", "4096")


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


def names() -> Iterator[Case]:
    yield Case("name-empty", 8, with_tensor(info("", [8])), "RQ_E_NAME", "1 to 127")
    yield Case("name-too-long", 8, with_tensor(info("n" * 128, [8])), "RQ_E_NAME", "128")
    yield Case("name-length-huge", 8, with_tensor(text("a", 2**63) + bytes(32)), "RQ_E_NAME")
    twice = gguf([], [info("a", [8]), info("a", [8], offset=32)], bytes(64))
    yield Case("name-twice", 8, twice, "RQ_E_NAME", "tensors 0 and 1")


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


GENERATORS = (
    truncation,
    header,
    counts,
    strings,
    keys,
    values,
    alignments,
    names,
    dimensions,
    types,
    rows,
    offsets,
    totals,
    layout,
)
