"""What the commands share: notes, progress and checked argument types."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any


def note(args: argparse.Namespace, text: str) -> None:
    """A line for people, on standard error."""
    if not args.quiet:
        print(text, file=sys.stderr, flush=True)


class Progress:
    """A tqdm bar on standard error, made when the first step is known; none with --quiet or in a log file."""

    def __init__(self, quiet: bool, unit: str, label: str, *, scale: bool = False) -> None:
        self._quiet = quiet
        self._options = {"unit": unit, "desc": label, "unit_scale": scale}
        self._bar: Any = None

    def to(self, done: int, total: int | None = None, suffix: str = "", resumed: bool = False) -> None:
        """Moves the bar to `done` of `total`; what is `resumed` doesn't count for the time that is left."""
        if self._quiet:
            return
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                total=total, file=sys.stderr, mininterval=0.2, leave=False, dynamic_ncols=True, disable=None,
                **self._options,
            )  # fmt: skip
        if total is not None:
            self._bar.total = total
        if suffix:
            self._bar.set_postfix_str(suffix, refresh=False)
        if resumed:
            self._bar.initial = done
        self._bar.update(done - self._bar.n)
        if done == total:  # what follows, another bar perhaps, begins on a clean line
            self._bar.close()
            self._bar = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()


def whole(least: int, most: int = 2**31 - 1) -> Callable[[str], int]:
    """An argparse type: a whole number in a range."""

    def convert(text: str) -> int:
        try:
            value = int(text, 0)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected a whole number, found {text!r}") from None
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"expected {least} to {most}, found {value}")
        return value

    return convert


def number(least: float, most: float) -> Callable[[str], float]:
    """An argparse type: a finite number in a range."""

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected a number, found {text!r}") from None
        if not math.isfinite(value) or not least <= value <= most:
            raise argparse.ArgumentTypeError(f"expected {least:g} to {most:g}, found {text}")
        return value

    return convert


SEED = whole(0, 2**64 - 1)
