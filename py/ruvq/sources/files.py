"""Reading pieces of a file by position, and small JSON files, with every length checked first.

Weights are read with positioned reads, never mapped: a file cut short while it is read is then a typed
error and not a crash, and memory stays bounded by what is asked for.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from .. import json_text
from ..errors import FileFormatError, StorageError

MAX_JSON_BYTES = 64 << 20  # tokenizer.json of the largest vocabularies is about 35 MB
MAX_TOKENIZER_BYTES = 64 << 20


def storage_error(error: OSError, path: Path | str, doing: str) -> StorageError:
    """An OSError of the system as a typed error."""
    hints = {
        FileNotFoundError: "check the path",
        PermissionError: "check the file's permissions",
        IsADirectoryError: "name a file, not a folder",
    }
    return StorageError(
        f"can't {doing}",
        subject=str(path),
        actual=error.strerror or str(error),
        hint=hints.get(type(error), ""),
    )


class PieceFile:
    """A file opened for reading at positions; safe to share between threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()  # one position for all threads where the system has no positioned reads
        try:
            self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by close()
            self.size = os.fstat(self._file.fileno()).st_size
        except OSError as error:
            raise storage_error(error, path, "open the file") from error

    def read(self, offset: int, nbytes: int) -> bytearray:
        """Exactly `nbytes` from `offset`; FileFormatError when the file ends before."""
        out = bytearray(nbytes)
        view, done = memoryview(out), 0
        while done < nbytes:
            try:
                got = self._read_into(view[done:], offset + done)
            except OSError as error:
                raise storage_error(error, self.path, "read the file") from error
            if got == 0:
                raise FileFormatError(
                    "the file ends too early",
                    subject=str(self.path),
                    expected=f"{nbytes} bytes at {offset}",
                    actual=f"{max(0, self.size - offset)} bytes there",
                    hint="it may be cut off or still downloading; fetch it again",
                )
            done += got
        return out

    def _read_into(self, view: memoryview, offset: int) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._file.fileno(), [view], offset)
        with self._lock:
            self._file.seek(offset)
            return self._file.readinto(view) or 0

    def close(self) -> None:
        """Closes the file; may be called twice."""
        self._file.close()


def read_tokenizer(path: Path) -> bytes:
    """All bytes of a tokenizer's file. Raises StorageError, and FileFormatError for one that is too large."""
    file = PieceFile(path)
    try:
        if file.size > MAX_TOKENIZER_BYTES:
            raise FileFormatError(
                "too large for a tokenizer",
                subject=str(path),
                expected=f"at most {MAX_TOKENIZER_BYTES} bytes",
                actual=str(file.size),
            )
        return bytes(file.read(0, file.size))
    finally:
        file.close()


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice!r} appears twice")
    return out


def parse_json_object(text: bytes | bytearray, subject: str, hint: str = "") -> dict[str, Any]:
    """A JSON object from bytes of any origin; FileFormatError when it isn't one."""
    try:
        value = json_text.loads(bytes(text), object_pairs_hook=_no_duplicates)
    except ValueError as error:
        start = bytes(text[:40]).lstrip()
        found = "an HTML page" if start[:1] == b"<" else str(error)
        raise FileFormatError(
            "not a JSON object", subject=subject, expected="JSON", actual=found, hint=hint
        ) from error
    if not isinstance(value, dict):
        raise FileFormatError(
            "not a JSON object", subject=subject, expected="an object", actual=type(value).__name__, hint=hint
        )
    return value


def read_json(path: Path, hint: str = "") -> dict[str, Any]:
    """A JSON object from a file of at most MAX_JSON_BYTES."""
    file = PieceFile(path)
    try:
        if file.size > MAX_JSON_BYTES:
            raise FileFormatError(
                "the JSON file is too large",
                subject=str(path),
                expected=f"at most {MAX_JSON_BYTES} bytes",
                actual=f"{file.size} bytes",
            )
        return parse_json_object(file.read(0, file.size), str(path), hint)
    finally:
        file.close()
