"""Work on a file that was cut off (a kill, a power failure) and is gone on with when the same work is asked
for again: what is kept beside an output until it is complete.

Nothing found there is trusted: a tensor counts only when its bytes have the SHA-256 that was noted, under the
very header that the new run would write.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from ..errors import StorageError
from .recipe import timestamp_now

_PIECE = 1 << 20


@dataclass(frozen=True)
class Entry:
    """A tensor that is complete: SHA-256 of its data, and what its maker wants to know of it again."""

    name: str
    digest: str
    note: dict[str, Any] = field(default_factory=dict)


class Workplace:
    """The folder `.NAME.work` beside an output, for one run at a time.

        with Workplace(target, key) as work:
            ...

    `key`: digest of everything that decides the output but the time; what another key left is removed.
    Attributes: `folder`; `timestamp`: when the work began, the one given, or now. Leaving the `with`, by an
    exception too, removes the folder: only a run that was killed leaves it. StorageError when another run
    works on the same output.
    """

    def __init__(self, target: Path, key: str, timestamp: str | None = None) -> None:
        self.folder = target.with_name(f".{target.name[:200]}.work")
        self._key = key
        self._lock: Any = None
        self.timestamp = timestamp or ""

    def __enter__(self) -> Workplace:
        self.folder.mkdir(exist_ok=True)
        self._lock = self._locked()
        about = self.folder / "work.json"
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            found = json.loads(about.read_text(encoding="utf-8"))
            if found["key"] == self._key:
                self.timestamp = self.timestamp or str(found["timestamp"])
                return self
        for path in self.folder.iterdir():
            if path.name != "lock":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.timestamp = self.timestamp or timestamp_now()
        replace_text(about, json.dumps({"key": self._key, "timestamp": self.timestamp}))
        return self

    def _locked(self) -> Any:
        """The open lock file; the system lets go of it when the process ends, however it ends."""
        try:
            import fcntl
        except ImportError:  # Windows: two runs at once are the user's business
            return None
        lock = open(self.folder / "lock", "w")  # noqa: SIM115 - closed by __exit__
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise StorageError(
                "another run is making this output",
                subject=str(self.folder),
                expected="one run at a time",
                actual="a folder in use",
                hint="wait for it, or choose another --output",
            ) from error
        return lock

    def journal(self) -> Journal:
        """The journal of the output."""
        return Journal(self.folder)

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()


class Journal:
    """An unfinished file `part`, and `journal.jsonl` with a line for each of its tensors that is complete."""

    def __init__(self, folder: Path) -> None:
        self.part = folder / "part"
        self._lines = folder / "journal.jsonl"

    def recover(self, header: bytes, tensors: Sequence[tuple[str, int, int]]) -> list[Entry]:
        """The entries whose data stand in the unfinished file, in order.

        `tensors`: name, bytes of data and bytes with padding, in the file's order, behind `header`.
        Afterwards the file ends with the last of them, and so does the journal; without any, both are empty.
        """
        good: list[Entry] = []
        end = len(header)
        with contextlib.suppress(OSError), open(self.part, "rb+") as file:
            if file.read(len(header)) == header:
                for entry, (name, nbytes, padded) in zip(self._entries(), tensors, strict=False):
                    if entry.name != name or _digest(file, end, nbytes) != entry.digest:
                        break
                    good.append(entry)
                    end += padded
                file.truncate(end)
        if not good:
            self.part.unlink(missing_ok=True)
        replace_text(self._lines, "".join(map(_line, good)))
        return good

    def _entries(self) -> Iterator[Entry]:
        with contextlib.suppress(OSError), open(self._lines, encoding="utf-8") as lines:
            for line in lines:
                try:
                    yield Entry(**json.loads(line))
                except (ValueError, TypeError):  # cut off in the middle
                    return

    def add(self, name: str, digest: str, note: dict[str, Any]) -> None:
        """Notes that a tensor's data are in the file."""
        with open(self._lines, "a", encoding="utf-8") as lines:
            lines.write(_line(Entry(name, digest, note)))


def _line(entry: Entry) -> str:
    return json.dumps({"name": entry.name, "digest": entry.digest, "note": entry.note}) + "\n"


def _digest(file: BinaryIO, start: int, nbytes: int) -> str:
    """SHA-256 of a part of a file; of less where it ends before."""
    sha = hashlib.sha256()
    file.seek(start)
    while nbytes > 0 and (piece := file.read(min(_PIECE, nbytes))):
        sha.update(piece)
        nbytes -= len(piece)
    return sha.hexdigest()


def replace_text(path: Path, text: str) -> None:
    """Writes a small file so that it is there whole or not at all."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
