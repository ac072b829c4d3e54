"""The draft that sequential rounding works on: the output's tensors in a file that the engine can run while
its layers are filled in. The output is written from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelError, UsageError
from ..gguf import GGUFFile
from ..gguf.journal import replace_text
from ..gguf.types import TensorSpec
from ..gguf.writer import GGUFWriter
from .calibration import OUTPUT_INPUT, Calibration, input_of
from .plan import FLOATS
from .reports import planned_report
from .sequential import Encode, Sequential
from .writing import Encoded, Progress, Step

if TYPE_CHECKING:
    from ..sources import Source
    from .plan import Plan, PlannedTensor

ZEROS = bytes(1 << 20)


class Draft:
    """`folder`: where it lies, and is gone on with after a kill. `floats`: the float model as a GGUF file."""

    def __init__(
        self, folder: Path, source: Source, plan: Plan, metadata: Mapping[str, Any], floats: Path
    ) -> None:
        self._path, self._notes_path, self._folder = folder / "draft.gguf", folder / "draft.json", folder
        self._source, self._plan, self._metadata, self._floats = source, plan, metadata, floats
        self._notes: dict[str, dict[str, float]] = {}
        self._file: GGUFFile | None = None

    def _is_rounded(self, tensor: PlannedTensor) -> bool:
        """Whether a tensor waits for its layer's turn."""
        name = input_of(tensor.name)
        return name not in (None, OUTPUT_INPUT) and tensor.is_matrix and tensor.format not in FLOATS

    def make(
        self,
        make: Callable[[PlannedTensor], Encoded],
        encode: Encode,
        calibration: Calibration,
        seed: int,
        damping: float,
        threads: int,
        step: Progress,
    ) -> None:
        """Everything but the layers by `make`, then layer after layer. Raises as quantizing does."""
        if not self._notes_path.exists():
            self._begin(make)
        self._notes = json.loads(self._notes_path.read_text(encoding="utf-8"))
        total = self._plan.nbytes
        waiting = [t for t in self._plan.tensors if self._is_rounded(t)]
        done = total - sum(t.nbytes for t in waiting)
        with Sequential(
            self._path, self._floats, calibration, self._folder, seed, damping, threads, encode
        ) as work:
            done += sum(t.nbytes for t in waiting if t.name in work.done)
            step(Step("", done, total, resumed=work.first > 0))
            for layer in range(work.first, work.layers):
                members = [t for t in waiting if t.name.startswith(f"blk.{layer}.")]
                for tensor in work.run(layer, members):
                    done += tensor.nbytes
                    step(Step(tensor.name, done, total))
            self._notes |= {name: entry["note"] for name, entry in work.done.items()}

    def _begin(self, make: Callable[[PlannedTensor], Encoded]) -> None:
        specs = [TensorSpec(t.name, t.format, t.shape) for t in self._plan.tensors]
        notes = {}
        self._path.unlink(missing_ok=True)
        with GGUFWriter(self._path, self._source.architecture, self._metadata, specs) as writer:
            for planned in self._plan.tensors:
                if self._is_rounded(planned):
                    writer.write(planned.name, _zeros(planned.nbytes))
                    continue
                report, pieces = make(planned)
                writer.write(planned.name, pieces)
                notes[planned.name] = report.sums()
        replace_text(self._notes_path, json.dumps(notes))

    def stored(self, planned: PlannedTensor) -> Encoded:
        """A tensor of the finished draft."""
        assert self._file is not None
        data = self._file.tensor_bytes(planned.name)
        return planned_report(planned, **self._notes[planned.name]), iter([data])

    def __enter__(self) -> Draft:
        self._file = GGUFFile.open(self._path)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._file is not None:
            self._file.close()


def _zeros(nbytes: int) -> Iterator[memoryview]:
    for start in range(0, nbytes, len(ZEROS)):
        yield memoryview(ZEROS)[: min(len(ZEROS), nbytes - start)]


def check_calibration(calibration: Calibration | None, digest: str) -> None:
    """Refuses an artifact without tokens, or of another model than the one with this SHA-256."""
    if calibration is None or not calibration.windows():
        raise UsageError(
            "sequential rounding runs the model on the calibration's tokens",
            subject="calibration",
            expected="what `ruvq calibrate` writes",
            actual="none" if calibration is None else "an artifact without tokens",
            hint="calibrate, or leave out --sequential",
        )
    found = calibration.metadata.get("ruvq.calibration.model")
    if found != digest:
        raise ModelError(
            "the calibration belongs to another model",
            subject="calibration",
            expected=f"SHA-256 {digest}",
            actual=str(found),
            hint="calibrate this model",
        )
