"""What happened in a run, one JSON object a line, and for TensorBoard where that is asked for."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from ..errors import MissingDependencyError


class Events:
    """`write(kind, **values)`; numbers that aren't finite are written as null."""

    def __init__(self, path: str | Path | None = None, tensorboard: str | Path | None = None) -> None:
        self._file: TextIO | None = open(path, "a", encoding="utf-8") if path else None  # noqa: SIM115
        self._board: Any = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise MissingDependencyError(
                    "TensorBoard isn't installed", actual=str(error), hint="run `pip install tensorboard`"
                ) from error
            self._board = SummaryWriter(str(tensorboard))

    def write(self, kind: str, step: int, **values: Any) -> None:
        """One event of a step."""
        if self._file:
            plain = {k: _finite(v) for k, v in values.items()}
            line = {"event": kind, "step": step, "time": round(time.time(), 3), **plain}
            self._file.write(json.dumps(line, allow_nan=False) + "\n")
            self._file.flush()
        if self._board:
            for name, value in values.items():
                if isinstance(value, (int, float)) and not isinstance(value, bool):
                    self._board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Ends the files."""
        for end in (self._file, self._board):
            if end is not None:
                end.close()

    def __enter__(self) -> Events:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self.close()


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
