"""A float model in, a GGUF file out: the plan first, then the work, then a report.

Tensors stream through in chunks of rows; the float model is never in memory as a whole. The file takes
its name only when it is complete and verified.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import formats
from ..errors import UsageError
from ..gguf.recipe import Recipe, timestamp_now
from ..sources import Source, open_source
from . import mixes
from .checks import check_desktop, check_options, check_space, check_target, encode_options
from .chunks import thread_count
from .metadata import file_metadata, file_recipe, source_digest
from .plan import AUTO, Plan, PlannedTensor, make_plan
from .reports import Report, file_report
from .writing import (
    Encoded,
    Observe,
    Progress,
    Step,
    encode_tensor,
    encoders,
    has_threads,
    reporter,
    write_file,
)

if TYPE_CHECKING:
    from .calibration import Calibration


def quantize_model(
    input: str | os.PathLike[str],
    output: str | os.PathLike[str],
    format: str = "pi-t3",
    *,
    incoherence: str = "auto",
    seed: int = 0,
    tokenizer: str | os.PathLike[str] | None = None,
    config: str | os.PathLike[str] | None = None,
    embeddings: str = "same",
    output_tensor: str = "same",
    fallback: str | None = None,
    k: int | None = None,
    scale: str | None = None,
    calibration: str | os.PathLike[str] | None = None,
    damping: float = 0.01,
    fisher: bool = False,
    sequential: bool = False,
    thorough: bool = False,
    target_size: str | int | None = None,
    target_bpw: float | None = None,
    candidates: Sequence[str] = (),
    strict: bool = False,
    rotate: str = "none",
    threads: int | None = None,
    progress: bool | Progress = True,
    type_ids: str | None = None,
    timestamp: str | None = None,
    allow_requantize: bool = False,
    overwrite: bool = False,
    command: str | None = None,
    on_plan: Callable[[Plan, Source], None] | None = None,
    observe: Observe | None = None,
    chat_template: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Report:
    """Converts a float model to a GGUF file.

    `input`: what `open_source` reads. `format`: a name of docs/formats.md, or a mix, q4_k_m or q5_k_m.
    `incoherence`: "hadamard", "orthogonal" (dense, for widths up to 256), "none", or "auto" (hadamard for the
    trellis formats). `seed`: of the transform. `embeddings`, `output_tensor`: another format for these
    tensors. `fallback`: the format for tensors whose width the main one can't hold; "auto": the smallest
    that holds it with no fewer bits.
    `k`, `scale`: see the encoders. `calibration`: what `ruvq calibrate` wrote: matrices are rounded with
    error feedback (LDLQ) and `damping` times the mean of the diagonal is added to the second moments; without
    these (an importance matrix) the columns' errors are weighed. `fisher`: by the artifact's Fisher
    information in place of these. `sequential`: layers' matrices are rounded
    one after the other for the inputs they will really get, towards the float model's outputs
    (ruvq.quantize.sequential): better, and slower. `thorough`: trellis formats search each block's scales
    longer, with error feedback six times as long. `target_size` ("130MB", of the file) or
    `target_bpw` (bits per weight of all tensors) choose each matrix's format at least loss among
    `candidates`, instead of `format`. `strict`: nothing is substituted (see `plan_model`). `rotate`:
    "residual", "values" or "all" (ruvq.quantize.rotation), with `seed`. `type_ids`: "ruvllm" writes
    pi-q3 and pi-q2 under type ids 40 and 41. `timestamp`: for the recipe, by default now. `progress`: a bar,
    or a function that is called with a Step. `chat_template`: a file with the Jinja template to store instead
    of the model's own, or "none". `settings`: recorded in the recipe as they are.
    `on_plan` sees the plan before anything is written. `observe` is called with every chunk: the tensor's
    name, rows, width, and where the core's memory holds the weights that were encoded and what they decode
    to, as float32, during the call.

    Raises UsageError, StorageError, FileFormatError, ModelError, TokenizerError, TemplateError, DataError;
    nothing is left behind then. A run that was killed leaves the folder `.NAME.work` beside the output: the
    same call goes on with the tensors that are complete, and gives the same bytes.
    """
    started = time.perf_counter()
    target = Path(output)
    options = encode_options(k, scale, thorough)
    if not 0 <= seed < 1 << 64:
        raise UsageError(
            "the seed must fit 64 bits", subject="seed", expected="0 to 2^64 - 1", actual=str(seed)
        )
    mixes.check_writable(format)  # a mistyped name is the first thing to hear of
    for name in (embeddings, output_tensor, fallback):
        if name not in (None, "same", AUTO):
            formats.get_writable(name)
    budget = None
    if target_size is not None or target_bpw is not None or candidates:
        from .target import make_target

        budget = make_target(target_size, target_bpw, candidates)
    threads = thread_count(threads)
    check_target(target, Path(input), overwrite)
    check_desktop(rotate, calibration)
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(
            open_source(os.fspath(input), tokenizer, config, allow_requantize=allow_requantize)  # type: ignore[arg-type]
        )
        source = _turned(opened, rotate, seed)
        report_step = stack.enter_context(reporter(progress))
        calibrated = guides = None
        if calibration is not None:
            import numpy  # noqa: F401 - calibration needs it: the recipe names its version

            from .calibration import Calibration
            from .feedback import Guides

            calibrated = stack.enter_context(Calibration.open(calibration))
            guides = Guides(calibrated, damping, calibrated if fisher else None)
        if fisher:
            from .feedback import check_fisher

            check_fisher(calibrated, sequential)
        how: dict[str, Any] = {
            "incoherence": incoherence,
            "embeddings": embeddings,
            "output_tensor": output_tensor,
            "fallback": fallback,
            "type_ids": type_ids,
        }
        if budget is None and not strict:
            plan = make_plan(source.tensors.values(), format, **how)
        else:
            from .target import plan_model

            def measured(done: int, total: int) -> None:
                report_step(Step("measuring formats", done, total))

            more: dict[str, Any] = {"seed": seed, "strict": strict, "progress": measured}
            plan = plan_model(source, format, target=budget, calibration=calibrated, **how, **more)
        check_options(plan, options)
        metadata = file_metadata(source, plan, seed, options, chat_template)
        check_space(target, plan)
        if on_plan is not None:
            on_plan(plan, source)
        if sequential:
            from .draft import Draft, check_calibration
            from .float_model import float_model

            check_calibration(calibrated, source_digest(source))
        began = timestamp or ""
        recipe = file_recipe(
            source,
            plan,
            seed,
            options,
            command,
            began,
            calibrated,
            damping,
            sequential,
            rotate,
            settings,
            fisher,
        )
        journal = work = None
        if has_threads():
            from ..gguf.journal import Workplace

            key = _key(plan, metadata, recipe, calibrated)
            work = stack.enter_context(Workplace(target, key, timestamp))
            journal = None if observe else work.journal()  # who observes wants to see every chunk
            recipe = replace(recipe, timestamp=work.timestamp)
        elif timestamp is None:
            recipe = replace(recipe, timestamp=timestamp_now())
        pool = stack.enter_context(encoders(threads))
        if guides is not None and not sequential:
            ahead = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="ruvq-factor"))
            guides.expect(((planned, planned.transform(seed)) for planned in plan.tensors), ahead)
        encode = partial(encode_tensor, source, options, seed, pool, 2 * threads, observe)

        def make(planned: PlannedTensor) -> Encoded:
            return encode(planned, guides.of(planned, planned.transform(seed)) if guides else None)

        if sequential:
            assert calibrated is not None
            assert work is not None
            floats = float_model(input, work.folder, tokenizer, config, threads)
            draft = Draft(work.folder, source, plan, metadata, floats)
            draft.make(make, encode, calibrated, seed, damping, threads, report_step)
            make = stack.enter_context(draft).stored
        results = write_file(source, plan, target, metadata, recipe, make, report_step, journal, budget)
        return file_report(source, plan, results, target, seed, time.perf_counter() - started)


def _key(plan: Plan, metadata: Mapping[str, Any], recipe: Recipe, calibrated: Calibration | None) -> str:
    """What tells whether unfinished work is the same work: all that decides the bytes, but the time."""
    calibration = calibrated.fingerprint() if calibrated else ""
    what = (plan.tensors, sorted(metadata.items()), replace(recipe, timestamp=""), calibration)
    return hashlib.sha256(repr(what).encode()).hexdigest()


def _turned(source: Source, rotate: str, seed: int) -> Source:
    if rotate == "none":
        return source
    from . import rotation

    return rotation.apply(source, rotate, seed)
