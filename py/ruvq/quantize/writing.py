"""The work that a plan stands for: tensors encoded on several threads while the file is written."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import core, formats
from ..gguf.recipe import Recipe
from ..gguf.types import TensorSpec
from ..gguf.writer import GGUFWriter
from ..sources import Source
from .checks import options_for
from .plan import Plan, PlannedTensor
from .reports import TensorReport, planned_report
from .rows import EncodedRows, EncodeOptions, RowEncoder, chunk_rows, encode_in_order

if TYPE_CHECKING:
    from ..gguf.journal import Journal
    from .feedback import Guide
    from .target import Target

STALE_SECONDS = 3600  # a temporary file untouched for so long was left by a killed process

Progress = Callable[["Step"], None]
Observe = Callable[[str, int, int, int, int], None]
Encoded = tuple[TensorReport, Iterator[memoryview]]  # the report is complete when all bytes were taken


@dataclass(frozen=True)
class Step:
    """How far the work is: bytes of output, of all tensors; before that, with a target, weights measured."""

    tensor: str
    bytes_done: int
    bytes_total: int
    resumed: bool = False  # done by an earlier run that was cut off


def has_threads() -> bool:
    """Whether this host can encode on several threads, and keep unfinished work: not in a browser."""
    return core.get().host == "native"


@contextlib.contextmanager
def reporter(progress: bool | Progress) -> Iterator[Progress]:
    """A function that takes Steps: the caller's own, a tqdm bar on standard error, or none."""
    if callable(progress):
        yield progress
    elif not progress:
        yield lambda step: None
    else:
        from tqdm import tqdm

        with tqdm(unit="B", unit_scale=True, desc="quantize", leave=False, dynamic_ncols=True) as bar:

            def show(step: Step) -> None:
                bar.total = step.bytes_total
                bar.set_postfix_str(step.tensor, refresh=False)
                bar.update(step.bytes_done - bar.n)

            yield show


@contextlib.contextmanager
def encoders(threads: int) -> Iterator[ThreadPoolExecutor | None]:
    """Threads that encode; None where there can be none."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="ruvq-encode") if has_threads() else None
    try:
        yield pool
    finally:
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)


def _remove_stale(target: Path) -> None:
    """Temporary files that a killed run left for the same output."""
    for path in target.parent.glob(f".{glob_escape(target.name)}.*.part"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                path.unlink()


def glob_escape(name: str) -> str:
    """A file name for use in a glob pattern."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def write_file(
    source: Source,
    plan: Plan,
    target: Path,
    metadata: Mapping[str, Any],
    recipe: Recipe,
    make: Callable[[PlannedTensor], Encoded],
    step: Progress,
    journal: Journal | None,
    budget: Target | None,
) -> list[TensorReport]:
    """All tensors in the plan's order, made by `make` or kept from a run that was cut off; their reports."""
    _remove_stale(target)
    specs = [TensorSpec(t.name, t.format, t.shape) for t in plan.tensors]
    results: list[TensorReport] = []
    done = 0
    with GGUFWriter(target, source.architecture, metadata, specs, recipe=recipe, journal=journal) as writer:
        if budget is not None:
            budget.check(writer.total_bytes)
        for planned in plan.tensors:
            if planned.name in writer.kept:
                results.append(planned_report(planned, **writer.kept[planned.name].note))
                done += planned.nbytes
                step(Step(planned.name, done, plan.nbytes, resumed=True))
                continue
            result, pieces = make(planned)

            def counted(
                pieces: Iterator[memoryview] = pieces, name: str = planned.name
            ) -> Iterator[memoryview]:
                nonlocal done
                for piece in pieces:
                    yield piece
                    done += piece.nbytes
                    step(Step(name, done, plan.nbytes))

            writer.write(planned.name, counted(), result.sums)
            results.append(result)
    return results


def encode_tensor(
    source: Source,
    options: EncodeOptions,
    seed: int,
    pool: ThreadPoolExecutor | None,
    ahead: int,
    observe: Observe | None,
    planned: PlannedTensor,
    guide: Guide | None,
) -> Encoded:
    """The report to be filled in, and the tensor's bytes, made as they are taken."""
    tensor = source.tensors[planned.name]
    used = options_for(planned.format, options)
    see = None if observe is None else partial(observe, planned.name)
    transform = planned.transform(seed)
    encoder = RowEncoder(formats.get(planned.format), tensor.width, used, transform, see, guide)
    report = planned_report(planned)

    def add(chunk: EncodedRows) -> None:
        report.squares += chunk.squares
        report.squared_error += chunk.squared_error
        report.output_squares += chunk.output_squares
        report.output_error += chunk.output_error
        report.peak = max(report.peak, chunk.peak)
        report.turned_peak = max(report.turned_peak, chunk.turned_peak)

    chunks = tensor.chunks(chunk_rows(tensor.width))
    return report, _timed(report, encode_in_order(encoder, chunks, pool, ahead, planned.name, add))


def _timed(report: TensorReport, pieces: Iterator[memoryview]) -> Iterator[memoryview]:
    started = time.perf_counter()
    yield from pieces
    report.seconds = time.perf_counter() - started
