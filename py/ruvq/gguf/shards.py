"""Models in several files, by llama.cpp's names (`name-00001-of-00003.gguf`) and its `split.*` keys.

The core joins the indexes of the files; their bytes stay where they are, so that shards are mapped as single
files are. What is missing, out of order, there twice or of another model is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .. import core
from ..core import Allocation
from ..errors import FileFormatError, RuvqError, StorageError

if TYPE_CHECKING:
    from .reader import GGUFFile

_NAME = re.compile(r"^(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<ending>\.gguf)$")
_HINT = "keep all shards in one folder, under the names that they were made with"


def paths(first: Path, count: int) -> list[Path]:
    """All shards of a model in `count` files, of which `first` is the first.

    Raises FileFormatError when its name says something else, StorageError when shards aren't there.
    """
    match = _NAME.match(first.name)
    expected = f"NAME-00001-of-{count:05}.gguf"
    if not match or (int(match["number"]), int(match["count"])) != (1, count):
        raise FileFormatError(
            "this file is the first shard of a model, but its name doesn't tell where the others are",
            subject=str(first),
            expected=expected,
            actual=first.name,
            hint=_HINT,
            code="RQ_E_SHARD",
        )
    found = [
        first.with_name(f"{match['stem']}-{n:05}-of-{count:05}{match['ending']}") for n in range(1, count + 1)
    ]
    missing = [path.name for path in found if not path.is_file()]
    if missing:
        raise StorageError(
            "shards of the model are missing",
            subject=str(first),
            expected=f"{count} files",
            actual=f"without {', '.join(missing[:3])}{' ...' if len(missing) > 3 else ''}",
            hint=_HINT,
            code="RQ_E_SHARD",
        )
    return found


def join(files: Sequence[GGUFFile]) -> tuple[Allocation, int]:
    """The joint index of the shards, and the address that its offsets count from."""
    backend = core.get()
    lowest = min(file.data_address for file in files)
    first = files[0]
    with backend.alloc(8) as number:
        try:
            backend.call("rq_gguf_join_bytes", first.index_address, number.address)
        except RuvqError as error:
            raise _in_file(error, first) from None
        index = backend.alloc(int.from_bytes(backend.read(number.address, 8), "little"))
    file = first
    try:
        backend.call(
            "rq_gguf_join_begin", lowest, first.index_address, first.data_address, index.address, index.end
        )
        for file in files:
            backend.call("rq_gguf_join_add", lowest, file.index_address, file.data_address, index.address)
        file = first
        backend.call("rq_gguf_join_end", lowest, index.address)
    except RuvqError as error:
        index.free()
        raise _in_file(error, file) from None
    return index, lowest


def _in_file(error: RuvqError, file: GGUFFile) -> RuvqError:
    if file.subject:
        error.subject = f"{file.subject}: {error.subject}" if error.subject else file.subject
    return error
