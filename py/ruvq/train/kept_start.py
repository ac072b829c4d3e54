"""The quantized file that training starts from with `--start ptq`: made once and kept beside the checkpoint.

Making it takes as long as hundreds of steps, so a run that goes on, or that runs in several processes, must
not make it again. It is the same start as long as it was made of the same things and has the SHA-256 that was
written down with them.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import StorageError
from ..quantize.metadata import file_digest, source_digest
from ..sources import Source
from ..version import __version__
from .config import QatConfig
from .processes import Processes

KEPT, MADE_OF = "start.gguf", "start.json"
PIECE = 1 << 24  # bytes that are sent to other processes at a time


def ingredients(
    source: Source,
    texts: Sequence[str],
    config: QatConfig,
    calibration: str | os.PathLike[str] | None,
) -> dict[str, Any]:
    """What the file of `make_start` depends on, as plain values. StorageError."""
    files = texts if calibration is None else [os.fspath(calibration)]
    return {
        "model": source_digest(source), "format": config.format, "k": config.k, "seed": config.seed,
        "incoherence": config.turn.method if config.turn else "none", "embeddings": config.embeddings,
        "calibrated_on": [digest_of(Path(file)) for file in files], "ruvq": __version__,
    }  # fmt: skip


def kept_start(
    folder: Path, wanted: dict[str, Any], make: Callable[[Path], Path], processes: Processes
) -> Path:
    """The file in `folder` that was made of what is wanted and is still whole; where there is none the first
    process makes it (`make(working folder)`). Processes that don't see it in their own `folder` are sent it.
    StorageError where it can't be written."""
    path = folder / KEPT
    first = processes.rank == 0
    digest = processes.share((_kept_digest(folder, wanted) or _make(folder, wanted, make)) if first else None)
    lacks = not first and not (path.is_file() and digest_of(path) == digest)
    if processes.any(lacks):
        _send(path, lacks, processes)
    return path


def digest_of(path: Path) -> str:
    """SHA-256 of a file. StorageError."""
    try:
        return file_digest(path)
    except OSError as error:
        raise StorageError(
            "the file can't be read", subject=str(path), actual=error.strerror or str(error)
        ) from error


def _kept_digest(folder: Path, wanted: dict[str, Any]) -> str | None:
    """Of the file that is there, if it is what is wanted and whole."""
    try:
        said = json.loads((folder / MADE_OF).read_text(encoding="utf-8"))
        whole = said["made_of"] == wanted and said["sha256"] == digest_of(folder / KEPT)
        return str(said["sha256"]) if whole else None
    except (OSError, StorageError, ValueError, KeyError, TypeError):
        return None


def _make(folder: Path, wanted: dict[str, Any], make: Callable[[Path], Path]) -> str:
    """Makes it and says what it was made of; its SHA-256."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".start-", dir=folder) as working:
            made = make(Path(working))
            digest, said = digest_of(made), Path(working) / MADE_OF
            said.write_text(json.dumps({"made_of": wanted, "sha256": digest}, indent=1), encoding="utf-8")
            os.replace(made, folder / KEPT)
            os.replace(said, folder / MADE_OF)
            return digest
    except OSError as error:
        raise StorageError(
            "the start can't be kept", subject=str(folder), actual=error.strerror or str(error)
        ) from error


def _send(path: Path, lacks: bool, processes: Processes) -> None:
    """The first process's file to those that lack it, a piece at a time."""
    first = processes.rank == 0
    size = processes.share(path.stat().st_size if first else None)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{KEPT}.{processes.rank}.part")
    with open(path if first else os.devnull, "rb") as file, open(part if lacks else os.devnull, "wb") as out:
        for _ in range(0, size, PIECE):
            out.write(processes.share(file.read(PIECE)))
    if lacks:
        os.replace(part, path)
