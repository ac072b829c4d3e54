"""ruvq: language models at 2 and 3 bits, from the desktop to a browser tab, in one GGUF file.

Names are loaded when they are first used: `import ruvq` pulls in neither NumPy nor torch.
"""

from __future__ import annotations

import importlib
from typing import Any

from .errors import RuvqError
from .version import __version__

# public name: the module that has it
_NAMES = {
    "quantize": "ruvq.quantize",
    "dequantize": "ruvq.quantize",
    "matvec": "ruvq.quantize",
    "hadamard": "ruvq.quantize",
    "compare": "ruvq.quantize",
    "QuantizedTensor": "ruvq.quantize",
    "quantize_model": "ruvq.quantize.pipeline",
    "Model": "ruvq.runtime.model",
    "Tokenizer": "ruvq.runtime.tokenizer",
    "GGUFFile": "ruvq.gguf",
}
__all__ = ["RuvqError", "__version__", *_NAMES]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'ruvq' has no attribute {name!r}")
    value = getattr(importlib.import_module(_NAMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
