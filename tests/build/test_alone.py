"""What builds share in out/ is written by one process at a time."""

from __future__ import annotations

import fcntl
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "build"))

import alone


def is_free(name: str) -> bool:
    """Whether another process could enter now: the lock belongs to an open file, not to a process."""
    with (alone.LOCKS / name).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_others_wait_until_the_end_or_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(alone, "LOCKS", tmp_path / "locks")
    with alone.alone("models"):
        assert not is_free("models")
        assert is_free("pyodide")
    assert is_free("models")
    with pytest.raises(ZeroDivisionError), alone.alone("models"):
        raise ZeroDivisionError
    assert is_free("models")
