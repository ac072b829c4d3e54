"""Checkpoints of a run: written beside, then renamed, so that there is always a whole one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from ..errors import StorageError, UsageError

VERSION = 1
LAST, BEST = "last.pt", "best.pt"


def save(folder: Path, name: str, state: dict[str, Any]) -> None:
    """Writes `state`, tensors and plain values."""
    part = folder / f".{name}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        torch.save({"version": VERSION, **state}, part)
        os.replace(part, folder / name)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StorageError(
            "the checkpoint can't be written", subject=str(folder / name), actual=error.strerror or str(error)
        ) from error


def load(folder: Path, name: str, run: dict[str, Any] | None = None) -> dict[str, Any] | None:
    """The checkpoint, or None when there is none. UsageError when it is of another version or another run:
    `run` is compared with what the checkpoint was made with."""
    path = folder / name
    if not path.is_file():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    if state.get("version") != VERSION:
        raise UsageError("the checkpoint is of another version", subject=str(path), expected=str(VERSION))
    if run is not None and state["run"] != run:
        other = [key for key in run if state["run"].get(key) != run[key]]
        raise UsageError(
            "the checkpoint is of another run", subject=str(path),
            expected=", ".join(f"{key} = {state['run'].get(key)}" for key in other[:4]),
            actual=", ".join(f"{key} = {run[key]}" for key in other[:4]),
            hint="start with the same settings, or name another --checkpoint folder",
        )  # fmt: skip
    return state
