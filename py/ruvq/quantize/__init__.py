"""Floats to a format: single matrices here, whole models in `ruvq.quantize.pipeline`.

`ruvq.quantize` is both this package and, as everyone writes it, a function: the package can be called.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from .tensors import Comparison, QuantizedTensor, compare, dequantize, hadamard, matvec, quantize

__all__ = ["Comparison", "QuantizedTensor", "compare", "dequantize", "hadamard", "matvec", "quantize"]


class _CallablePackage(ModuleType):
    """Importing a module of this package binds `ruvq.quantize` to the package instead of the function."""

    def __call__(self, *args: Any, **kwargs: Any) -> QuantizedTensor:
        return quantize(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
