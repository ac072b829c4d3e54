"""Filters and functions that templates call, each with its cost checked before it is paid.

`tojson`, `raise_exception` and `strftime_now` are as `transformers` gives them to its templates.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import jinja2
import jinja2.filters

from ..errors import TemplateError
from .meter import CURRENT, MAX_RANGE, MAX_SMALL, check_plain, limit, text_of


def _check_replace(text: str, old: Any, new: Any, count: Any = -1) -> None:
    times = text.count(str(old)) if old else len(text) + 1
    if isinstance(count, int) and count >= 0:
        times = min(times, count)
    CURRENT.get().step(len(text) + times * len(str(new)))


def _check_join(separator: str, parts: Any) -> None:
    meter = CURRENT.get()
    meter.step(meter.weigh(parts) + len(separator) * len(parts))


def _check_strip(text: str, chars: Any = None) -> None:
    if isinstance(chars, str) and len(chars) > MAX_SMALL:
        raise limit("the template strips too many characters", f"at most {MAX_SMALL}", len(chars))


CHECKS: dict[str, Callable[..., None]] = {
    "replace": _check_replace,
    "join": _check_join,
    "strip": _check_strip,
    "lstrip": _check_strip,
    "rstrip": _check_strip,
}


def trim(value: Any, chars: str | None = None) -> str:
    _check_strip("", chars)
    return text_of(value).strip(chars)


def rounded(value: Any, precision: int = 0, method: str = "common") -> Any:
    _small(abs(precision))
    return jinja2.filters.do_round(value, precision, method)  # type: ignore[arg-type]


def replace(value: Any, old: str, new: str, count: int | None = None) -> str:
    text = text_of(value)
    _check_replace(text, old, new, -1 if count is None else count)
    return text.replace(old, new, -1 if count is None else count)


@jinja2.pass_environment
def join(environment: Any, value: Any, d: Any = "", attribute: Any = None) -> str:
    if attribute is not None:
        getter = jinja2.filters.make_attrgetter(environment, attribute)
        value = [getter(item) for item in value]
    parts = [text_of(part) for part in value]
    _check_join(text_of(d), parts)
    return text_of(d).join(parts)


def indent(value: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    margin = width if isinstance(width, str) else " " * _small(width)
    lines = text_of(value).splitlines()
    if text_of(value).endswith("\n"):
        lines.append("")
    CURRENT.get().step(len(text_of(value)) + len(lines) * len(margin))
    return "\n".join(
        margin + line if (i > 0 or first) and (blank or line) else line for i, line in enumerate(lines)
    )


def _small(number: Any) -> int:
    if not isinstance(number, int) or not 0 <= number <= MAX_SMALL:
        raise limit("a width or precision is out of range", f"0 to {MAX_SMALL}", repr(number)[:40])
    return number


def tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As transformers has it: json.dumps, in which nothing is escaped for HTML."""
    check_plain(value)
    encoder = json.JSONEncoder(
        ensure_ascii=ensure_ascii,
        indent=None if indent is None else _small(indent),
        separators=tuple(separators) if separators else None,  # type: ignore[arg-type]
        sort_keys=sort_keys,
    )
    meter, parts = CURRENT.get(), []
    for part in encoder.iterencode(value):
        meter.step(len(part))
        parts.append(part)
    return "".join(parts)


def bounded_range(*args: int) -> range:
    numbers = range(*args)
    if len(numbers) > MAX_RANGE:
        raise limit("a range of the template is too long", f"at most {MAX_RANGE:,} numbers", len(numbers))
    return numbers


def raise_exception(message: Any = "") -> None:
    raise TemplateError(
        "the template refuses this conversation",
        expected="messages that it takes",
        actual=text_of(message)[:1000],
    )


def strftime_now(format: str) -> str:
    if len(format) > 100:
        raise limit("a date format of the template is too long", "100 characters", len(format))
    return datetime.now().strftime(format)
