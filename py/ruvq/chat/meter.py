"""Counts what one rendering of a template uses, and stops it at the limits.

Time is counted in steps and in characters looked at, which are the same on every machine; a clock is the last
resort.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import Any

import jinja2

from ..errors import TemplateError

MAX_TEMPLATE = 64 * 1024  # characters of a template
MAX_VALUE = 2 * 1024 * 1024  # weight of one value: its characters, and ELEMENT for every element
MAX_WORK = 32 * 1024 * 1024  # weight of all values made or looked at, and STEP for each step
MAX_OUTPUT = 4 * 1024 * 1024  # characters of the result
MAX_SECONDS = 10.0  # MAX_WORK is reached long before
MAX_DEPTH = 64  # of lists and dicts in each other
MAX_RANGE = 10_000
STEP = 128  # what a step weighs: a quarter of a million of them in all
ELEMENT = 32
MAX_INTEGER_BITS = 256
MAX_SMALL = 64  # of widths, precisions, exponents, and characters to strip


class Meter:
    """What one rendering has used. Lists and dicts can't be changed by a template, so each is weighed
    once."""

    def __init__(self) -> None:
        self._work = 0
        self._deadline = time.monotonic() + MAX_SECONDS
        self._known: dict[int, tuple[Any, int, int]] = {}  # id → the value, its weight, its height

    def step(self, weight: int = 0) -> None:
        """Counts one step, and `weight` characters or elements that it makes or looks at."""
        if weight > MAX_VALUE:
            raise limit("a value of the template is too large", f"at most {MAX_VALUE:,} characters", weight)
        self._work += STEP + weight
        if self._work > MAX_WORK:
            raise limit("the template does too much", f"at most {MAX_WORK // STEP:,} steps", "more")
        if time.monotonic() > self._deadline:
            raise limit("the template takes too long", f"at most {MAX_SECONDS:g} seconds", "more")

    def value(self, value: Any) -> Any:
        """Counts the step that made or passed on `value`, which it returns."""
        if isinstance(value, str):
            self.step(len(value))
        elif self.weigh(value) > MAX_VALUE:
            self.step(self.weigh(value))
        else:
            self.step()
        return value

    def look(self, value: Any) -> Any:
        """Counts a step that goes through all of `value`, which it returns."""
        self.step(self.weigh(value))
        return value

    def each(self, values: Iterable[Any]) -> Iterator[Any]:
        """The values, one step each."""
        for value in values:
            self.step()
            yield value

    def weigh(self, value: Any) -> int:
        """Characters of a value, and ELEMENT for each element, those of its elements included."""
        return self._measured(value)[0]

    def _measured(self, value: Any) -> tuple[int, int]:
        """Weight and height (lists and dicts in each other)."""
        if isinstance(value, str):
            return len(value), 0
        if isinstance(value, int):
            if value.bit_length() > MAX_INTEGER_BITS:
                raise limit("a number of the template is too large", f"{MAX_INTEGER_BITS} bits", "more")
            return 1, 0
        if isinstance(value, range):
            return ELEMENT * len(value), 1
        if not isinstance(value, (dict, list, tuple)):
            return 1, 0
        if id(value) not in self._known:
            self.step(min(MAX_VALUE, ELEMENT * len(value)))
            parts = [*value, *value.values()] if isinstance(value, dict) else value
            measured = [self._measured(part) for part in parts]
            height = 1 + max((height for _, height in measured), default=0)
            if height > MAX_DEPTH:
                raise limit(
                    "values of the template lie too deep in each other", f"{MAX_DEPTH} levels", "more"
                )
            weight = sum(ELEMENT + weight for weight, _ in measured)
            self._known[id(value)] = (value, weight, height)
        return self._known[id(value)][1:]


def limit(message: str, expected: str, actual: object) -> TemplateError:
    """The error of a limit that was reached."""
    shown = f"{actual:,}" if isinstance(actual, int) else str(actual)
    return TemplateError(
        message, expected=expected, actual=shown, hint="use another template, with template="
    )


def text_of(value: Any) -> str:
    """A value as a template prints it. TemplateError for what has no text, a namespace for one."""
    if isinstance(value, str):
        return value
    check_plain(value)
    return str(value)


def check_plain(value: Any, depth: int = 0) -> None:
    """Raises TemplateError for a value that holds more than texts, numbers, lists and dicts."""
    if value is None or isinstance(value, (str, int, float, jinja2.Undefined, range)):
        return
    if isinstance(value, (list, tuple, dict)) and depth < MAX_DEPTH:
        for part in [*value, *value.values()] if isinstance(value, dict) else value:
            check_plain(part, depth + 1)
        return
    raise TemplateError(
        "the template prints something that has no text",
        expected="texts, numbers, lists and dicts",
        actual=type(value).__name__,
    )


CURRENT: ContextVar[Meter] = ContextVar("ruvq_template_meter")  # of the rendering that runs
