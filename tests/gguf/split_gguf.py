"""Splits a GGUF file into shards as llama.cpp's gguf-split does: all metadata in the first, `split.*` keys in
each, tensors in order. For tests; right and wrong values of the keys on request."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import ruvq
from attacks.build_gguf import I32, U16, gguf, info, kv, pad
from ruvq.core import structs


def shard_name(stem: str, number: int, count: int) -> str:
    """`number` counts from 1."""
    return f"{stem}-{number:05}-of-{count:05}.gguf"


def split(data: bytes, tensors: Sequence[int], total: int | None = None) -> list[bytes]:
    """Shards with so many tensors each (0 is allowed, as in a first shard with metadata only)."""
    with ruvq.GGUFFile.open(data) as file:
        entries = structs.unpack_array(
            "rq_gguf_tensor", file._index_bytes, file.header["tensor_count"], file.header["tensor_start"]
        )
        raw = list(entries)
        kvs, alignment = file.header["kv_count"], file.alignment
    assert sum(tensors) == len(raw)
    assert alignment == 32
    metadata = data[24 : raw[0]["name_offset"] - 8]
    shards, at = [], 0
    for number, count in enumerate(tensors):
        keys = [
            kv("split.no", U16, number),
            kv("split.count", U16, len(tensors)),
            kv("split.tensors.count", I32, len(raw) if total is None else total),
        ]
        infos, body = [], b""
        for tensor in raw[at : at + count]:
            name = data[tensor["name_offset"] :][: tensor["name_bytes"]]
            dims = tensor["dims"][: tensor["n_dims"]]
            infos.append(info(name, dims, tensor["ggml_type"], len(body)))
            body += pad(data[tensor["data_offset"] :][: tensor["data_bytes"]])
        at += count
        first = number == 0
        shards.append(gguf([metadata, *keys] if first else keys, infos, body, kv_count=3 + kvs * first))
    return shards


def write(folder: Path, stem: str, shards: Sequence[bytes]) -> list[Path]:
    """Under llama.cpp's names."""
    paths = [folder / shard_name(stem, n, len(shards)) for n in range(1, len(shards) + 1)]
    for path, shard in zip(paths, shards, strict=True):
        path.write_bytes(shard)
    return paths
