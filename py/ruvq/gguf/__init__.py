"""The container: GGUF files read through the core's validating parser, checked, and written.

Needs neither NumPy nor the gguf package, so it works in Pyodide too.
docs/container.md has the keys, the limits and what is refused.
"""

from __future__ import annotations

import importlib
from typing import Any

# public name: the module that has it
_NAMES = {
    "GGUFFile": "reader",
    "TensorInfo": "reader",
    "Typed": "values",
    "VerifyProgress": "check",
    "VerifyReport": "check",
    "inspect": "inspection",
    "inspect_file": "inspection",
    "Recipe": "recipe",
    "GGUFWriter": "writer",
    "TensorSpec": "types",
    "write_gguf": "writer",
}
__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'ruvq.gguf' has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_NAMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
