"""Names of formats as people type them: case, `-` and `_` don't matter, a few aliases, near misses named."""

from __future__ import annotations

import difflib

from ..core import CONSTANTS
from ..errors import UsageError
from ..gguf.types import TensorType, by_name

ALIASES = {"bitnet": "ternary", "t158": "ternary", "fp16": "f16", "fp32": "f32", "2bit": "pi-t2", "3bit": "pi-t3"}


def _key(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def writable() -> dict[str, TensorType]:
    """The formats that ruvq writes, by name."""
    none = CONSTANTS["RQ_FORMAT_NONE"]
    return {name: t for name, t in by_name().items() if t.format != none}


def choose_format(name: str) -> TensorType:
    """The format meant by a name. UsageError with the nearest names when there is none."""
    formats = {_key(n): t for n, t in writable().items()}
    formats |= {alias: formats[_key(target)] for alias, target in ALIASES.items() if _key(target) in formats}
    wanted = _key(name)
    if wanted in formats:
        return formats[wanted]
    names = sorted(n for n in writable() if not n.endswith("-ruvllm"))
    near = difflib.get_close_matches(wanted, formats, 3, 0.5)
    shown = sorted({formats[n].name for n in near})
    raise UsageError(
        "unknown format",
        subject=name,
        expected=", ".join(names),
        actual=repr(name),
        hint=f"did you mean {' or '.join(shown)}?" if shown else "",
    )
