"""Checks of a GGUF file's name before it is opened: is it there, is it a GGUF at all, does it fit memory."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ..errors import FileFormatError, MemoryLimitError, StorageError

MAGIC = b"GGUF"


def existing_gguf(name: str | os.PathLike[str]) -> Path:
    """The path, when it names a file that begins as a GGUF file does."""
    path = Path(name)
    if str(name).startswith(("http://", "https://")):
        raise StorageError(
            "only files on this machine are read",
            subject=str(name),
            expected="a path",
            actual="a URL",
            hint="download the file first",
        )
    if path.is_dir():
        raise StorageError(
            "this is a folder",
            subject=str(path),
            expected="a GGUF file",
            actual="a folder",
            hint="convert it first: ruvq quantize --input FOLDER --output model.gguf",
        )
    try:
        with open(path, "rb") as file:
            head = file.read(16)
    except OSError as error:
        raise StorageError(
            "the file can't be read",
            subject=str(path),
            expected="a GGUF file",
            actual=error.strerror or str(error),
            hint="check the path and its permissions",
        ) from error
    if head[:4] != MAGIC:
        hint = "download or write it again"
        if head[8:9] == b"{":
            found, hint = "a safetensors file", "convert it first with `ruvq quantize`"
        else:
            from ..sources.safetensors_file import describe_start

            found = describe_start(head) if head else "an empty file"
        raise FileFormatError(
            "not a GGUF file",
            subject=str(path),
            expected="a file that starts with GGUF",
            actual=found,
            hint=hint,
            code="RQ_E_MAGIC",
        )
    return path


def available_memory(system: Path = Path("/")) -> int | None:
    """Bytes that a new program can take without swapping; None where the system doesn't say.

    Linux: what the machine has available, and what the container's limit leaves, file cache not counted.
    """
    found: list[int] = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (system / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
    groups = system / "sys/fs/cgroup"
    for folder, limit, used in (
        (groups, "memory.max", "memory.current"),
        (groups / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        with contextlib.suppress(OSError, ValueError):  # not in such a group, or "max": no limit
            left = int((folder / limit).read_text()) - int((folder / used).read_text())
            found.append(left + _file_cache(folder / "memory.stat"))
    return max(0, min(found)) if found else None


def _file_cache(stat: Path) -> int:
    """Bytes of cached files, which count as used but are given back on demand."""
    try:
        values = dict(line.split(maxsplit=1) for line in stat.read_text().splitlines())
        return int(values.get("active_file", 0)) + int(values.get("inactive_file", 0))
    except (OSError, ValueError):
        return 0


def check_memory(path: Path, beside: int = 0) -> None:
    """MemoryLimitError when the file and `beside` more bytes don't fit into the memory that is free."""
    free, needed = available_memory(), path.stat().st_size + beside
    if free is not None and needed > free:
        raise MemoryLimitError(
            "the model doesn't fit into memory",
            subject=str(path),
            expected=f"{needed / 1e6:,.0f} MB for weights and cache",
            actual=f"{free / 1e6:,.0f} MB available",
            hint="use a format of fewer bits, a shorter --context, or close other programs",
        )
