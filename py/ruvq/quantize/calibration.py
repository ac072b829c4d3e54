"""What calibration found, as quantization reads it: second moments of every matrix's inputs.

The artifact is a GGUF file that llama.cpp's tools read as an importance matrix (`NAME.in_sum2` and
`NAME.counts`) and that also holds, for every input of the model, the whole matrix of second moments, sum of
x x^T over all tokens, as the packed rows of its upper half: `ruvq.moment.INPUT` (docs/calibration.md).
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ModelError, UsageError
from ..gguf import GGUFFile

if TYPE_CHECKING:
    import numpy as np

# which input a layer's matrix multiplies
INPUT_OF = {
    "attn_q": "attention",
    "attn_k": "attention",
    "attn_v": "attention",
    "attn_output": "attention_out",
    "ffn_gate": "feed_forward",
    "ffn_up": "feed_forward",
    "ffn_down": "down",
}
LAYER_INPUTS = ("attention", "attention_out", "feed_forward", "down")  # in the core's order
OUTPUT_INPUT = "output"
MOMENT = "ruvq.moment."
FISHER = "ruvq.fisher."  # F of a matrix, or its diagonal
SENSITIVITY = ".sensitivity"  # of a matrix: nats and squared error for each of PROBES
# what every matrix is rounded to, to see what it costs: the steps that plans of few bits are made of
PROBES = ("pi-t2", "pi-t3")


def input_of(tensor: str) -> str | None:
    """The input that a weight matrix multiplies: "blk.3.attn_q.weight" → "blk.3.attention"; None for others.

    A tied embedding is the output matrix too, and that is what its rounding matters most for.
    """
    if tensor in ("output.weight", "token_embd.weight"):
        return OUTPUT_INPUT
    parts = tensor.split(".")
    if len(parts) == 4 and parts[0] == "blk" and parts[2] in INPUT_OF and parts[3] == "weight":
        return f"blk.{parts[1]}.{INPUT_OF[parts[2]]}"
    return None


def _is_amount(value: Any) -> bool:
    return isinstance(value, (int, float)) and 0 <= value < math.inf


@dataclass(frozen=True)
class Cost:
    """What errors in a matrix cost, from some that were measured: (squared error, nats a token)."""

    points: tuple[tuple[float, float], ...]

    def nats(self, error: float) -> float:
        """Of a squared error: from no error on in straight lines from point to point, and in proportion to
        the last one behind it."""
        last = (0.0, 0.0)
        for point in sorted(p for p in self.points if p[0] > 0):
            if error <= point[0]:
                part = (error - last[0]) / (point[0] - last[0])
                return last[1] + part * (point[1] - last[1])
            last = point
        return last[1] * error / last[0] if last[0] else 0.0


class Calibration:
    """An open artifact. Attributes: `metadata`, `tokens`, `samples`, `digest` (of the calibration set)."""

    def __init__(self, file: GGUFFile) -> None:
        self._file = file
        self._tensors = {t.name: t for t in file.tensors}
        self.metadata: Mapping[str, Any] = file.metadata
        if file.metadata.get("general.type") != "imatrix":
            raise UsageError(
                "this isn't a calibration artifact",
                subject=file.subject,
                expected="general.type imatrix: what `ruvq calibrate` or llama-imatrix writes",
                actual=str(file.metadata.get("general.type")),
                hint="make one with `ruvq calibrate`",
            )
        self.tokens = int(file.metadata.get("ruvq.calibration.tokens", 0))
        self.samples = int(file.metadata.get("ruvq.calibration.samples", 0))
        self.digest = str(file.metadata.get("ruvq.calibration.digest", ""))

    def fingerprint(self) -> str:
        """SHA-256 of the whole artifact."""
        return self._file.sha256()

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Calibration:
        """Raises StorageError, FileFormatError, UsageError."""
        file = GGUFFile.open(path)
        try:
            return cls(file)
        except BaseException:
            file.close()
            raise

    def _floats(self, name: str) -> np.ndarray:
        import numpy as np

        return np.frombuffer(self._file.tensor_bytes(name), "<f4")

    def has_moment(self, name: str) -> bool:
        """Whether the whole matrix of an input's second moments is there."""
        return MOMENT + name in self._tensors

    def moment(self, name: str, width: int) -> np.ndarray:
        """Second moments of an input: float32 (width, width), symmetric, a new array. ModelError when the
        artifact is of a model with other widths."""
        return self._symmetric(MOMENT + name, width)

    def has_fisher(self) -> bool:
        """Whether Fisher information is there, of whole matrices or of columns."""
        return any(name.startswith(FISHER) for name in self._tensors)

    def fisher(self, tensor: str, width: int) -> np.ndarray:
        """What an error in a row of a matrix costs, by gradients (ruvq.train.fisher): float32 (width, width),
        symmetric, or of an artifact of columns only its diagonal (width,); a new array. ModelError as
        `moment`, and where it wasn't collected."""
        name = FISHER + tensor
        if name not in self._tensors:
            raise ModelError(
                "the calibration doesn't know this matrix",
                subject=name,
                expected="Fisher information of every matrix",
                actual="none",
                hint="calibrate this model with --fisher",
            )
        found = self._floats(name)
        return found.astype("<f4") if found.size == width else self._symmetric(name, width)

    def _symmetric(self, name: str, width: int) -> np.ndarray:
        import numpy as np

        packed = self._floats(name)
        if packed.size != width * (width + 1) // 2:
            raise ModelError(
                "the calibration belongs to another model",
                subject=name,
                expected=f"second moments of {width} inputs",
                actual=f"{packed.size} numbers",
                hint="calibrate this model",
            )
        out = np.zeros((width, width), np.float32)
        out[np.triu_indices(width)] = packed
        return out + np.triu(out, 1).T

    def importance(self, tensor: str, width: int) -> np.ndarray | None:
        """Mean square of each column's input: float32 (width,); None where nothing was collected."""
        name = tensor + ".in_sum2"
        if name not in self._tensors:
            return None
        sums = self._floats(name)
        counts = self._floats(tensor + ".counts")
        if sums.size != width or counts.size != 1:
            raise ModelError(
                "the calibration belongs to another model",
                subject=name,
                expected=f"{width} numbers",
                actual=f"{sums.size}",
                hint="calibrate this model",
            )
        return (sums / max(float(counts[0]), 1.0)).astype("<f4")

    def sensitivities(self) -> dict[str, Cost] | None:
        """What errors in each matrix cost: by tensor name; None where it wasn't measured. ModelError for
        numbers that can't be."""
        found = {}
        for name, tensor in self._tensors.items():
            if not name.endswith(SENSITIVITY):
                continue
            pairs = self._floats(name).reshape(-1, 2).tolist() if tensor.weights % 2 == 0 else []
            if not pairs or not all(_is_amount(v) for pair in pairs for v in pair):
                raise ModelError(
                    "the sensitivities of the calibration are damaged",
                    subject=name,
                    expected="pairs of numbers of 0 or more",
                    actual=f"{tensor.weights} numbers, some of them others",
                    hint="calibrate again with --sensitivity",
                )
            found[name.removesuffix(SENSITIVITY)] = Cost(tuple((error, nats) for nats, error in pairs))
        return found or None

    def windows(self) -> list[list[int]]:
        """The tokens that were calibrated on, a list for each context; none in llama.cpp's artifacts."""
        ids, out = [int(token) for token in self.metadata.get("ruvq.calibration.ids", [])], []
        for length in self.metadata.get("ruvq.calibration.windows", []):
            out.append(ids[: int(length)])
            del ids[: int(length)]
        return out

    def close(self) -> None:
        """Gives the file back."""
        self._file.close()

    def __enter__(self) -> Calibration:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
