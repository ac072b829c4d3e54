"""Class 17: a model in several files of which some are missing, out of order, there twice, of another model,
or that lie about each other. No path comes from a file: shards hold numbers, and the names are made from the
one that the caller gave."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from attacks.build_gguf import (
    F32,
    I32,
    STRING,
    U16,
    U32,
    U64,
    Tensor,
    array,
    gguf,
    kv,
    llama_keys,
    llama_weights,
    with_weights,
)
from attacks.case import Case

WEIGHTS = llama_weights()
TOTAL = len(WEIGHTS)
PARTS = (WEIGHTS[:4], WEIGHTS[4:8], WEIGHTS[8:])
COUNT = len(PARTS)
DISK, NET = ("native", "Pyodide"), ("page",)


def split_keys(no: int, count: int, total: int) -> list[bytes]:
    return [
        kv("split.no", U16, no),
        kv("split.count", U16, count),
        kv("split.tensors.count", I32, total),
    ]


def shard(
    no: int,
    tensors: Sequence[Tensor],
    count: int = COUNT,
    total: int = TOTAL,
    kvs: Sequence[bytes] | None = None,
) -> bytes:
    """Shard `no` (from 0) of the small model; the first has the metadata."""
    own = (llama_keys() if no == 0 else []) if kvs is None else kvs
    return with_weights([*own, *split_keys(no, count, total)], tensors)


def right() -> list[bytes]:
    return [shard(no, tensors) for no, tensors in enumerate(PARTS)]


def _renamed(tensors: Sequence[Tensor], name: str) -> list[Tensor]:
    """With the first tensor under another name."""
    return [(name, *tensors[0][1:]), *tensors[1:]]


def _digests(count: int) -> bytes:
    """That none of the tensors has."""
    return array("ruvq.sha256.tensors", STRING, ["0" * 64] * count)


def sets() -> Iterator[Case]:
    """Files in memory, in the order in which they are given."""
    a, b, c = right()
    whole = with_weights(llama_keys(), WEIGHTS)
    one, two = shard(0, WEIGHTS[:6], 2), shard(1, WEIGHTS[6:], 2)
    foreign = shard(1, [], 2, kvs=[kv("general.architecture", STRING, "qwen2")])
    refused: dict[str, tuple[list[bytes], str, str]] = {
        "missing-the-last": ([a, b], "RQ_E_SHARD", "2 with"),
        "missing-in-the-middle": ([a, c], "RQ_E_SHARD", "shard 3"),
        "missing-the-first": ([b, c], "RQ_E_SHARD", "another shard"),
        "the-first-alone": ([a], "RQ_E_SHARD", "shard 1 of 3"),
        "another-alone": ([b], "RQ_E_SHARD", "shard 2 of 3"),
        "reordered": ([a, c, b], "RQ_E_SHARD", "shard 3"),
        "reversed": ([c, b, a], "RQ_E_SHARD", "another shard"),
        "a-shard-twice": ([a, b, b], "RQ_E_SHARD", "shard 2"),
        "one-too-many": ([a, b, c, c], "RQ_E_SHARD", "shard 3"),
        "of-another-split": ([a, two, c], "RQ_E_SHARD", "one of 2"),
        "of-another-architecture": ([shard(0, WEIGHTS, 2), foreign], "RQ_E_SHARD", "another one"),
        "whole-models": ([whole, whole], "RQ_E_SHARD", "a model in one file"),
        "a-shard-and-a-whole-model": ([one, whole], "RQ_E_SHARD", "one of 1"),
        "more-tensors-promised": (
            [shard(0, WEIGHTS[:6], 2, TOTAL + 1), shard(1, WEIGHTS[6:], 2, TOTAL + 1)],
            "RQ_E_SHARD",
            f"with {TOTAL}",
        ),
        "fewer-tensors-promised": (
            [shard(0, WEIGHTS[:6], 2, TOTAL - 1), shard(1, WEIGHTS[6:], 2, TOTAL - 1)],
            "RQ_E_SHARD",
            "or more instead of",
        ),
        "totals-that-differ": ([one, shard(1, WEIGHTS[6:], 2, TOTAL + 1)], "RQ_E_SHARD", f"with {TOTAL + 1}"),
        "a-tensor-twice": ([one, shard(1, _renamed(WEIGHTS[6:], WEIGHTS[0][0]), 2)], "RQ_E_NAME", ""),
        "a-tensor-missing": ([one, shard(1, _renamed(WEIGHTS[6:], "other"), 2)], "RQ_E_TENSOR", ""),
        "the-second-cut": ([one, two[:-32]], "RQ_E_TRUNCATED", ""),
        "the-second-empty": ([one, b""], "RQ_E_TRUNCATED", ""),
        "the-second-a-page": ([one, b"<!DOCTYPE html><html></html>"], "RQ_E_MAGIC", "HTML"),
        "a-digest-differs": (
            [
                shard(0, WEIGHTS[:6], 2, kvs=[*llama_keys(), _digests(TOTAL)]),
                two,
            ],
            "RQ_E_INTEGRITY",
            "token_embd",
        ),
        "too-few-digests": (
            [shard(0, WEIGHTS[:6], 2, kvs=[*llama_keys(), _digests(1)]), two],
            "RQ_E_INTEGRITY",
            "one for each",
        ),
    }  # fmt: skip
    for name, (files, code, says) in refused.items():
        yield Case(f"shards-{name}", 17, files[0], code, says, "shards", more=tuple(files[1:]))
    yield Case("ok-shards", 0, a, None, stage="shards", more=(b, c))
    metadata_only = [shard(0, []), shard(1, WEIGHTS[:8]), shard(2, WEIGHTS[8:])]
    yield Case("ok-shards-first-without-tensors", 0, metadata_only[0], None, stage="shards",
               more=tuple(metadata_only[1:]))  # fmt: skip
    yield Case("ok-one-shard-of-one", 0, shard(0, WEIGHTS, 1), None, stage="shards")


def keys() -> Iterator[Case]:
    """Split keys that can't be, in one file."""
    no, count, total = split_keys(0, 2, 1)
    refused: dict[str, tuple[list[bytes], str]] = {
        "no-number": ([count, total], "RQ_E_HYPERPARAMETER"),
        "no-total": ([no, count], "RQ_E_HYPERPARAMETER"),
        "number-above-the-count": ([kv("split.no", U16, 2), count, total], "RQ_E_LIMIT"),
        "number-negative": ([kv("split.no", I32, -1), count, total], "RQ_E_VALUE"),
        "count-65535": ([no, kv("split.count", U16, 65535), total], "RQ_E_LIMIT"),
        "count-2^32": ([no, kv("split.count", U64, 2**32), total], "RQ_E_VALUE"),
        "count-a-text": ([no, kv("split.count", STRING, "2"), total], "RQ_E_VALUE"),
        "count-a-float": ([no, kv("split.count", F32, 2.0), total], "RQ_E_VALUE"),
        "total-2^31": ([no, count, kv("split.tensors.count", U32, 2**31)], "RQ_E_LIMIT"),
        "total-negative": ([no, count, kv("split.tensors.count", I32, -1)], "RQ_E_VALUE"),
    }
    for name, (kvs, code) in refused.items():
        yield Case(f"shard-key-{name}", 17, gguf(kvs), code, "split.")


def named() -> Iterator[Case]:
    """Files of a folder or of a server, of which the first is opened by its name."""
    a, b, c = right()
    names = tuple(f"m-{n:05}-of-00003.gguf" for n in (1, 2, 3))

    def case(name: str, code: str | None, says: str, files: tuple[str, ...], **more: Any) -> Case:
        data = (a, b, c)[: len(files)]
        attack = 0 if code is None else 17
        return Case(name, attack, data[0], code, says, "named", more=data[1:], names=files, **more)

    yield case("ok-shards-named", None, "", names, hosts=DISK + NET)
    yield case(
        "shards-missing-on-the-disk", "RQ_E_SHARD", names[2], names[:2], error="StorageError", hosts=DISK
    )
    yield case("shards-missing-on-the-server", "", "404", names[:2], error="DownloadError", hosts=NET)
    wrong = {
        "without-a-number": ("mine.gguf", "its name doesn't tell"),
        "of-another-count": ("m-00001-of-00002.gguf", "00003"),
        "of-five-digits-too-many": ("m-0000001-of-0000003.gguf", "its name doesn't tell"),
        "number-0": ("m-00000-of-00003.gguf", "its name doesn't tell"),
        "in-another-name": ("m-00001-of-00003.gguf.gguf", "its name doesn't tell"),
    }
    for name, (first, says) in wrong.items():
        files = (first, *names[1:])
        yield case(f"shards-named-{name}", "RQ_E_SHARD", says, files, hosts=DISK + NET)


GENERATORS = (sets, keys, named)
