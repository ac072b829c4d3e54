"""A float model whose matrices went through some quantizer and back: a perplexity for encoders and row shapes
that no file of this model can have. Activations stay floats then, which no quantized file grants."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..gguf import GGUFFile

if TYPE_CHECKING:
    import numpy as np

Change = Callable[[str, "np.ndarray"], "np.ndarray"]


def write_round_trip(source: Path, target: Path, change: Change) -> None:
    """Copies the F32 file `source` with `change(name, values)` for every matrix, float32 (rows, width).

    The digests in the copy are those of the source: the copy is for measuring, not for keeping.
    UsageError for a matrix that isn't F32.
    """
    import numpy as np

    with GGUFFile.open(source) as file:
        matrices = [t for t in file.tensors if len(t.shape) > 1]
        other = next((t for t in matrices if t.format != "f32"), None)
        if other is not None:
            raise UsageError(
                "only floats can be replaced", subject=other.name, expected="f32", actual=other.format
            )
        shutil.copyfile(source, target)
        with open(target, "r+b") as copy:
            for tensor in matrices:
                values = np.frombuffer(file.tensor_bytes(tensor.name), "<f4").reshape(tensor.shape)
                changed = np.ascontiguousarray(change(tensor.name, values), "<f4")
                copy.seek(tensor.offset)
                copy.write(changed.reshape(tensor.shape).tobytes())
