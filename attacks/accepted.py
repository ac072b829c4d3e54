"""What must not be refused: beside each class, the nearest file that is right."""

from __future__ import annotations

from collections.abc import Iterator

from attacks.build_gguf import (
    ARRAY,
    GGML_I8,
    STRING,
    U8,
    U32,
    array,
    gguf,
    info,
    kv,
    pad,
    u32,
)
from attacks.case import Case
from attacks.container import VALID, with_kvs, with_tensor


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
    nested = kv(
        "ruvq.recipe", STRING, "[" * 200_000
    )  # somebody else's recipe: shown as text, never parsed so deep
    yield Case("ok-recipe-nested", 0, with_kvs(nested), None)
    for alignment in (8, 16, 64, 65536):
        kvs = [kv("general.alignment", U32, alignment)]
        entries = [info("a", [2]), info("b", [2], offset=alignment)]
        data = bytes(alignment) + bytes(8)
        yield Case(f"ok-alignment-{alignment}", 0, gguf(kvs, entries, data, alignment=alignment), None)
    sizes = {0: (1, 4), 2: (32, 18), 12: (256, 144), 20: (32, 18), 28: (1, 8), 35: (256, 66), 39: (32, 17)}
    for kind, (weights, size) in sizes.items():
        yield Case(f"ok-type-{kind}", 0, with_tensor(info("a", [weights, 3], kind), bytes(3 * size)), None)
    yield Case("ok-i8-of-somebody-else", 0, with_tensor(info("a", [7, 3], GGML_I8), bytes(21)), None)


GENERATORS = (unusual_but_valid,)
