"""Class 19: weights that are no numbers, and digests that differ."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator

from attacks.build_gguf import (
    GGML_F16,
    GGML_Q8_0,
    STRING,
    U32,
    array,
    gguf,
    info,
    kv,
    pad,
)
from attacks.case import Case
from attacks.container import ONE, ONE_DATA, own, with_tensor

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


GENERATORS = (data,)
