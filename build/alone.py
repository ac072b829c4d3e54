"""Keeps builds that write the same files of out/ from running side by side: tests run in processes."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCKS = Path(__file__).resolve().parent.parent / "out" / "locks"


@contextmanager
def alone(name: str) -> Iterator[None]:
    """Waits until no other process is within `alone(name)`. The lock ends with its process at the latest."""
    LOCKS.mkdir(parents=True, exist_ok=True)
    with (LOCKS / name).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
