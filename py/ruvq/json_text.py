"""JSON of any origin: as `json.loads`, but deep nesting is refused before the parser recurses into it.

CPython's parser recurses in C. On the desktop it stops in time with a RecursionError; in a browser the
stack is shorter than it thinks, and the whole interpreter dies."""

from __future__ import annotations

import json
import math
import re
from typing import Any

MOST_NESTING = 64  # a tokenizer.json has about 8
# Strings (whole or cut off) and other text up to a bracket or the end: it matches anywhere and never
# backtracks, so that any input takes linear time.
_NEXT_BRACKET = re.compile(rb'(?>[^"\[\]{}]++|"(?>[^"\\]++|\\.)*+"?)*+([\[\]{}]|\Z)', re.DOTALL)


def loads(text: bytes, **options: Any) -> Any:
    """The value. ValueError for anything that is no JSON in UTF-8, or has brackets more than MOST_NESTING
    deep."""
    depth = 0
    for match in _NEXT_BRACKET.finditer(text):
        depth += {b"[": 1, b"{": 1}.get(match[1], -1)
        if depth > MOST_NESTING:
            raise ValueError(f"nested more than {MOST_NESTING} deep")
    return json.loads(text.decode("utf-8"), **options)


def finite(value: Any) -> Any:
    """The same value with None for NaN and infinities and lists for tuples: what strict JSON has."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    return value
