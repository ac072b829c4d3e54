"""A float model in, a GGUF file out: the plan first, then the work, then a report.

Tensors stream through in chunks of rows; the float model is never in memory as a whole. The file takes
its name only when it is complete and verified.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import math
import os
import shutil
import sys
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import core, formats
from ..errors import StorageError, UsageError
from ..gguf.journal import Journal, Workplace
from ..gguf.recipe import Recipe, timestamp_now
from ..gguf.types import TensorSpec
from ..gguf.values import Typed
from ..gguf.writer import GGUFWriter
from ..sources import Source, open_source
from . import mixes
from .chunks import thread_count
from .plan import AUTO, TRELLIS, Plan, PlannedTensor, file_type, make_plan
from .rows import EncodedRows, EncodeOptions, RowEncoder, chunk_rows, encode_in_order
from .tensors import DEFAULT_K, SCALE_RULES
from .vocabulary import checked_vocabulary

if TYPE_CHECKING:
    from .calibration import Calibration
    from .feedback import Guide
    from .target import Target

HEADER_RESERVE = 1 << 20  # bytes beside tensor data and vocabulary that the space check allows for
THOROUGH_EFFORT = 8  # of the trellis encoders, from which on they try headers thoroughly
STALE_SECONDS = 3600  # a temporary file untouched for so long was left by a killed process

TAKES_K = (*DEFAULT_K, "pi-t3", "pi-t2")  # for the trellis: k of every group, instead of the best for each

Progress = Callable[["Step"], None]
Observe = Callable[[str, int, int, int, int], None]
Encoded = tuple["TensorReport", Iterator[memoryview]]  # the report is complete when all bytes were taken


@dataclass(frozen=True)
class Step:
    """How far the work is: bytes of output, of all tensors; before that, with a target, weights measured."""

    tensor: str
    bytes_done: int
    bytes_total: int
    resumed: bool = False  # done by an earlier run that was cut off


_SUMS = ("seconds", "squares", "squared_error", "output_squares", "output_error", "peak", "turned_peak")


@dataclass
class TensorReport:
    """What became of one tensor. `mse` and `snr_db` compare with the source's floats."""

    name: str
    format: str
    shape: tuple[int, ...]
    hadamard: bool
    bits: float
    nominal_bits: float
    nbytes: int
    seconds: float = 0.0
    squares: float = 0.0  # sum of w^2
    squared_error: float = 0.0  # sum of (w - decoded)^2
    output_squares: float = 0.0  # of the products with calibration's inputs
    output_error: float = 0.0
    peak: float = 0.0  # largest magnitude
    turned_peak: float = 0.0  # after the transform, where there is one

    def sums(self) -> dict[str, float]:
        """What the work found out, for the journal of a run that may be cut off."""
        return {name: getattr(self, name) for name in _SUMS}

    @property
    def mse(self) -> float:
        """Mean squared error of a weight."""
        return self.squared_error / math.prod(self.shape)

    @property
    def snr_db(self) -> float:
        """Signal to noise ratio; infinite where nothing was lost."""
        return snr_db(self.squares, self.squared_error)

    @property
    def output_snr_db(self) -> float | None:
        """The same of the products with the inputs of calibration; None where it wasn't used."""
        return snr_db(self.output_squares, self.output_error) if self.output_squares else None

    def mu(self, turned: bool) -> float | None:
        """How coherent the matrix is, before and after the transform: max |w| / root mean square, 1 at the
        least (Chee et al., QuIP). None for vectors, matrices of zeros, and in a browser."""
        peak = self.turned_peak if turned else self.peak
        if len(self.shape) < 2 or self.squares <= 0 or peak <= 0:
            return None
        return peak / math.sqrt(self.squares / math.prod(self.shape))

    def as_dict(self) -> dict[str, Any]:
        """For `--json`; `bpw` is actual. An infinite SNR (no error) becomes null."""
        return {
            "name": self.name,
            "format": self.format,
            "shape": list(self.shape),
            "hadamard": self.hadamard,
            "bpw": self.bits,
            "bpw_nominal": self.nominal_bits,
            "bytes": self.nbytes,
            "mse": self.mse,
            "snr_db": self.snr_db if math.isfinite(self.snr_db) else None,
            "output_snr_db": self.output_snr_db,
            "mu": self.mu(False),
            "mu_hadamard": self.mu(True) if self.hadamard else None,
            "seconds": round(self.seconds, 4),
        }


@dataclass
class Report:
    """The result of `quantize_model`.

    `bits_per_weight` is nominal, of the weight matrices at full blocks; `bits_per_weight_actual` is all
    tensor bytes over all weights, norms included.
    """

    output: Path
    format: str
    source: str
    parameters: int
    file_bytes: int
    tensor_bytes: int
    bits_per_weight: float
    bits_per_weight_actual: float
    incoherence: str
    seed: int | None
    mse: float
    snr_db: float
    seconds: float
    tensors: list[TensorReport] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        out = {k: v for k, v in self.__dict__.items() if k not in ("tensors", "output")}
        out["output"] = str(self.output)
        out["seconds"] = round(self.seconds, 3)
        out["snr_db"] = self.snr_db if math.isfinite(self.snr_db) else None
        out["tensors"] = [t.as_dict() for t in self.tensors]
        return out

    def summary(self) -> str:
        """A few lines for people."""
        snr = f"{self.snr_db:.2f} dB SNR" if math.isfinite(self.snr_db) else "exact"
        speed = self.parameters / max(self.seconds, 1e-9) / 1e6
        turned = [t for t in self.tensors if t.hadamard and t.mu(True)]
        coherence = ""
        if turned:
            before, after = (max(t.mu(side) or 0.0 for t in turned) for side in (False, True))
            coherence = f"; the most coherent matrix: mu {before:.1f}, with Hadamard {after:.1f} at most"
        return (
            f"{self.output}: {self.file_bytes:,} bytes, {self.format}, {self.parameters:,} weights\n"
            f"bits per weight: {self.bits_per_weight:.2f} nominal, {self.bits_per_weight_actual:.2f} actual; "
            f"{snr}{coherence}; {self.seconds:.1f} s ({speed:.2f} M weights/s)"
        )


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
    `incoherence`: "hadamard", "none", or "auto" (hadamard for the trellis formats). `seed`: of the
    transform's signs. `embeddings`, `output_tensor`: another format for these tensors. `fallback`: the format
    for tensors whose width the main one can't hold; "auto": the smallest that holds it with no fewer bits.
    `k`, `scale`: see the encoders. `calibration`: what `ruvq calibrate` wrote; matrices in ruvq's own formats
    are then rounded with error feedback (LDLQ) and `damping` times the mean of the diagonal is added to the
    second moments; other formats weigh the columns' errors. `sequential`: the layers' matrices are rounded
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
    options = _options(k, scale, thorough)
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
    _check_desktop(rotate, calibration)
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(
            open_source(os.fspath(input), tokenizer, config, allow_requantize=allow_requantize)  # type: ignore[arg-type]
        )
        source = _turned(opened, rotate, seed)
        report_step = stack.enter_context(_reporter(progress))
        calibrated = guides = None
        if calibration is not None:
            import numpy  # noqa: F401 - calibration needs it: the recipe names its version

            from .calibration import Calibration
            from .feedback import Guides

            calibrated = stack.enter_context(Calibration.open(calibration))
            guides = Guides(calibrated, damping)
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
        _check_options(plan, options)
        metadata = file_metadata(source, plan, seed, options, chat_template)
        _check_space(target, plan)
        if on_plan is not None:
            on_plan(plan, source)
        if sequential:
            from .draft import Draft, check_calibration
            from .float_model import float_model

            check_calibration(calibrated, source_digest(source))
        began = timestamp or ""
        recipe = _recipe(
            source, plan, seed, options, command, began, calibrated, damping, sequential, rotate, settings
        )
        journal = work = None
        if _has_threads():
            key = _key(plan, metadata, recipe, calibrated)
            work = stack.enter_context(Workplace(target, key, timestamp))
            journal = None if observe else work.journal()  # who observes wants to see every chunk
            recipe = replace(recipe, timestamp=work.timestamp)
        elif timestamp is None:
            recipe = replace(recipe, timestamp=timestamp_now())
        pool = stack.enter_context(_encoders(threads))
        encode = partial(_encode, source, options, seed, pool, 2 * threads, observe)

        def make(planned: PlannedTensor) -> Encoded:
            turned = seed if planned.hadamard else None
            return encode(planned, guides.of(planned, turned) if guides else None)

        if sequential:
            assert calibrated is not None
            assert work is not None
            floats = float_model(input, work.folder, tokenizer, config, threads)
            draft = Draft(work.folder, source, plan, metadata, floats)
            draft.make(make, encode, calibrated, seed, damping, threads, report_step)
            make = stack.enter_context(draft).stored
        results = _write(source, plan, target, metadata, recipe, make, report_step, journal, budget)
        return file_report(source, plan, results, target, seed, time.perf_counter() - started)


def _key(plan: Plan, metadata: Mapping[str, Any], recipe: Recipe, calibrated: Calibration | None) -> str:
    """What tells whether unfinished work is the same work: all that decides the bytes, but the time."""
    calibration = calibrated.fingerprint() if calibrated else ""
    what = (plan.tensors, sorted(metadata.items()), replace(recipe, timestamp=""), calibration)
    return hashlib.sha256(repr(what).encode()).hexdigest()


def _options(k: int | None, scale: str | None, thorough: bool) -> EncodeOptions:
    if k is not None and k not in (2, 3, 4, 5):
        raise UsageError("k is the divisor of pi", subject="k", expected="2, 3, 4 or 5", actual=str(k))
    if scale is not None and scale not in SCALE_RULES:
        raise UsageError("unknown scale rule", subject="scale", expected=", ".join(SCALE_RULES), actual=scale)
    return EncodeOptions(k or 0, scale or "default", THOROUGH_EFFORT if thorough else 0)


def _check_desktop(rotate: str, calibration: object) -> None:
    """What only the desktop's package has, and can't be combined."""
    if rotate != "none" and calibration is not None:
        raise UsageError(
            "calibration saw the inputs of the model as it was, not of the rotated one",
            subject="rotate",
            expected="--rotate or --calibration",
            actual="both",
            hint="write the rotated model in f32, calibrate that, and quantize it without --rotate",
        )
    if (rotate != "none" or calibration is not None) and core.get().host != "native":
        raise UsageError(
            "rotation and calibration are the desktop's",
            subject="rotate" if calibration is None else "calibration",
            expected="neither in a browser",
            actual="one of them",
            hint="quantize with `ruvq quantize` on the desktop",
        )


def _turned(source: Source, rotate: str, seed: int) -> Source:
    if rotate == "none":
        return source
    from . import rotation

    return rotation.apply(source, rotate, seed)


def _check_options(plan: Plan, options: EncodeOptions) -> None:
    """An option that no tensor of the plan takes is a mistake to be told of."""
    used = {t.format for t in plan.tensors if t.is_matrix}
    if options.k and not any(_options_for(name, options).k for name in used):
        raise UsageError(
            "k has no meaning for this format", subject="k", expected=", ".join(TAKES_K), actual=plan.format
        )
    if options.scale != "default" and not any(formats.get(name).own for name in used):
        raise UsageError(
            "a scale rule has no meaning for this format",
            subject="scale",
            expected="one of ruvq's own formats",
            actual=plan.format,
        )


def _options_for(format: str, options: EncodeOptions) -> EncodeOptions:
    """The part of the options that a format takes."""
    own = format in TAKES_K or formats.get(format).own
    effort = options.effort if format in TRELLIS else 0
    return EncodeOptions(options.k if format in TAKES_K else 0, options.scale if own else "default", effort)


def check_target(target: Path, input: Path, overwrite: bool) -> None:
    """Refuses what can't become the output, before any work."""
    if target.is_dir():
        raise StorageError(
            "the output is a folder", subject=str(target), expected="a file name", actual="a folder"
        )
    if not target.parent.is_dir():
        raise StorageError(
            "the output's folder doesn't exist",
            subject=str(target),
            expected=f"an existing folder {target.parent}",
            actual="none",
            hint="make it first",
        )
    if target.exists() and input.exists() and target.samefile(input):
        raise UsageError(
            "input and output are the same file", subject=str(target), hint="choose another --output"
        )
    if target.exists() and not overwrite:
        raise StorageError(
            "the output exists already",
            subject=str(target),
            expected="a new file name",
            actual=f"a file of {target.stat().st_size:,} bytes",
            hint="choose another --output, or replace it with --force",
        )
    if not os.access(target.parent, os.W_OK):
        raise StorageError(
            "the output's folder can't be written", subject=str(target.parent), hint="check its permissions"
        )


def _check_space(target: Path, plan: Plan) -> None:
    needed = plan.nbytes + 64 * len(plan.tensors) + HEADER_RESERVE
    free = shutil.disk_usage(target.parent).free
    if needed > free:
        error = StorageError(
            "not enough space on the disk",
            subject=str(target.parent),
            expected=f"{needed:,} bytes free",
            actual=f"{free:,} bytes",
            hint="free some space, write elsewhere, or choose a format of fewer bits",
        )
        error.errno = errno.ENOSPC
        raise error


def _remove_stale(target: Path) -> None:
    """Temporary files that a killed run left for the same output."""
    for path in target.parent.glob(f".{glob_escape(target.name)}.*.part"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                path.unlink()


def glob_escape(name: str) -> str:
    """A file name for use in a glob pattern."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def file_metadata(
    source: Source, plan: Plan, seed: int, options: EncodeOptions, chat_template: str | None
) -> dict[str, Any]:
    """Everything that describes the model, in the order in which llama.cpp's converters write it."""
    out: dict[str, Any] = {"general.type": "model", "general.name": source.name}
    out |= source.extra_metadata
    number = file_type(plan)
    if number is not None:
        out["general.file_type"] = Typed(number, "u32")
    out["general.quantization_version"] = Typed(2, "u32")
    for key, kind, value in source.parameters.metadata():
        out[key] = Typed(value, kind)
    if source.tokenizer is not None:
        keys = {key: _stored(value) for key, value in source.tokenizer.metadata().items()}
        out |= checked_vocabulary(source, keys, chat_template)
    if plan.hadamard_tensors:
        out["ruvq.hadamard.seed"] = Typed(seed, "u64")
        out["ruvq.hadamard.generator"] = "splitmix64"
        out["ruvq.hadamard.cut"] = "greedy-256"
        out["ruvq.hadamard.tensors"] = plan.hadamard_tensors
    own = [t for t in plan.tensors if formats.get(t.format).own]
    if any(t.format in DEFAULT_K for t in own):
        values = [(options.k or DEFAULT_K[t.format]) if t.format in DEFAULT_K else 0 for t in own]
        out["ruvq.tensor.k"] = Typed(values, "u32")
    return out


def _stored(value: Any) -> Any:
    """Arrays of the array module as the writer takes them."""
    if isinstance(value, array):
        return Typed(value.tolist(), {"i": "i32", "f": "f32"}[value.typecode])
    return value


def _recipe(
    source: Source,
    plan: Plan,
    seed: int,
    options: EncodeOptions,
    command: str | None,
    timestamp: str,
    calibrated: Calibration | None,
    damping: float,
    sequential: bool,
    rotate: str,
    settings: Mapping[str, Any] | None,
) -> Recipe:
    numpy = sys.modules.get("numpy")
    versions = {"python": sys.version.split()[0], **({"numpy": numpy.__version__} if numpy else {})}
    chosen = {
        "format": plan.format,
        "source_kind": source.kind,
        "hadamard": bool(plan.hadamard_tensors),
        "k": options.k,
        "scale": options.scale,
        "formats": sorted({t.format for t in plan.tensors}),
    }
    if calibrated is not None:
        chosen["damping"] = damping
        chosen["sequential"] = sequential
    if options.effort:
        chosen["effort"] = options.effort
    if rotate != "none":
        chosen["rotate"] = rotate
    if settings is not None:
        chosen["settings"] = settings
    return Recipe(
        command=command or "ruvq.quantize_model",
        seed=seed,
        calibration=calibrated.digest if calibrated else "",
        samples=calibrated.samples if calibrated else 0,
        source=f"{source.path.name} sha256 {source_digest(source)}",
        timestamp=timestamp,
        versions=versions,
        options=chosen,
    )


def source_digest(source: Source) -> str:
    """SHA-256 over the source's weight files, in order."""
    sha = hashlib.sha256()
    for path in source.files:
        with open(path, "rb") as file:
            while piece := file.read(1 << 20):
                sha.update(piece)
    return sha.hexdigest()


def _has_threads() -> bool:
    return core.get().host == "native"


@contextlib.contextmanager
def _reporter(progress: bool | Progress) -> Iterator[Progress]:
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
def _encoders(threads: int) -> Iterator[ThreadPoolExecutor | None]:
    """Threads that encode; None where there can be none."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="ruvq-encode") if _has_threads() else None
    try:
        yield pool
    finally:
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)


def _write(
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


def _encode(
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
    used = _options_for(planned.format, options)
    see = None if observe is None else partial(observe, planned.name)
    turned = seed if planned.hadamard else None
    encoder = RowEncoder(formats.get(planned.format), tensor.width, used, turned, see, guide)
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


def planned_report(planned: PlannedTensor, **sums: float) -> TensorReport:
    """A report with what was found out, or before that."""
    return TensorReport(
        planned.name,
        planned.format,
        planned.shape,
        planned.hadamard,
        planned.bits,
        planned.nominal_bits,
        planned.nbytes,
        **sums,
    )


def snr_db(squares: float, squared_error: float) -> float:
    """Signal to noise ratio in dB; infinite without an error."""
    if squared_error <= 0:
        return math.inf
    return 10 * math.log10(squares / squared_error) if squares > 0 else -math.inf


def file_report(
    source: Source, plan: Plan, results: list[TensorReport], target: Path, seed: int, seconds: float
) -> Report:
    """The report of a file that stands at `target`."""
    errors = sum(r.squared_error for r in results)
    squares = sum(r.squares for r in results)
    return Report(
        output=target,
        format=plan.format,
        source=source.kind,
        parameters=plan.weights,
        file_bytes=target.stat().st_size,
        tensor_bytes=plan.nbytes,
        bits_per_weight=plan.nominal_bits,
        bits_per_weight_actual=plan.actual_bits,
        incoherence="hadamard" if plan.hadamard_tensors else "none",
        seed=seed if plan.hadamard_tensors else None,
        mse=errors / plan.weights,
        snr_db=snr_db(squares, errors),
        seconds=seconds,
        tensors=results,
        notes=source.notes,
    )
