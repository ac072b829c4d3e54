"""Quantization-aware training. The only package that imports torch; `pip install 'ruvq[train]'`.

from ruvq.train import QatConfig, export_gguf, prepare_qat

prepare_qat(model, QatConfig.pit2())     # a transformers model, in place
...                                      # any trainer
export_gguf(model, "model.gguf", source)  # exactly the codes that were trained
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ..errors import MissingDependencyError
from .config import QatConfig

if TYPE_CHECKING:
    from .export import export_gguf
    from .layers import prepare_qat, quantized_weights, refresh_model
    from .loop import RunOptions, Trainer
    from .models import load_model
    from .run import QatReport, Work, qat

_MODULES = {
    "export_gguf": "export",
    "prepare_qat": "layers",
    "quantized_weights": "layers",
    "refresh_model": "layers",
    "RunOptions": "loop",
    "Trainer": "loop",
    "load_model": "models",
    "QatReport": "run",
    "Work": "run",
    "qat": "run",
}
__all__ = [
    "QatConfig", "QatReport", "RunOptions", "Trainer", "Work", "export_gguf", "load_model", "prepare_qat",
    "qat", "quantized_weights", "refresh_model",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """The rest needs torch, and says so where it isn't installed."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "training needs torch", actual=str(error), hint="run `pip install 'ruvq[train]'`"
        ) from error
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
