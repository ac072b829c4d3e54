"""`calibrate`: a float model and texts in, an artifact for `ruvq quantize --calibration` out."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError, UsageError
from ..gguf import GGUFFile
from ..gguf.journal import Workplace
from ..gguf.recipe import Recipe, calibration_digest
from ..gguf.values import Typed
from ..gguf.writer import GGUFWriter
from ..quantize.checks import check_target
from ..quantize.float_model import float_model
from ..quantize.metadata import source_digest
from ..runtime.engine import Engine
from ..runtime.tokenizer import Tokenizer
from ..runtime.windows import WINDOW, eval_windows
from ..sources import open_source
from .artifact import layer_specs, write_layers
from .collect import BATCH, Collector
from .fisher import check_torch, collect, write
from .fisher import specs as fisher_specs
from .samples import Sample, choose, read_samples
from .sensitivity import Prober

LEAST_TOKENS = 1024  # fewer say nothing about any model

Progress = Callable[[int, int, bool], None]


@dataclass(frozen=True)
class CalibrationReport:
    """What was calibrated on; `outliers` names windows of the set that stand far from the others."""

    output: str
    samples: int
    tokens: int
    windows: int
    domains: dict[str, int]
    digest: str
    seed: int
    diagonal: bool
    outliers: list[str]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def calibrate(
    input: str | os.PathLike[str],
    texts: Sequence[str],
    output: str | os.PathLike[str],
    *,
    tokenizer: str | os.PathLike[str] | None = None,
    config: str | os.PathLike[str] | None = None,
    domains: Sequence[str] | None = None,
    counts: Mapping[str, int] | None = None,
    samples: int | None = None,
    max_tokens: int = 32768,
    window: int = WINDOW,
    diagonal: bool = False,
    sensitivity: bool = False,
    fisher: bool = False,
    allow_outliers: bool = False,
    seed: int = 0,
    threads: int | None = None,
    timestamp: str | None = None,
    overwrite: bool = False,
    command: str | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    probing: Callable[[int, int], None] | None = None,
    gradients: Callable[[int, int], None] | None = None,
) -> CalibrationReport:
    """Runs the model on text and writes second moments of all inputs to `output`.

    `input`: what `quantize_model` takes. `texts`: files, each "domain=PATH" or a path (plain text or JSONL).
    `domains`, `counts`, `samples`: which samples are used, see `choose`. `max_tokens`: at most so many, taken
    from the samples in turn over the domains. `window`: tokens of a context, at most the model's
    own. `diagonal`: an importance matrix only. `sensitivity`: also what an error in each matrix costs, for
    `quantize_model(target_bpw=...)`: two runs of about a thousand tokens for each, `probing(matrices done, in
    all)`. `fisher`: also Fisher information of every matrix, by gradients, which needs torch; its last digits
    depend on the machine. `settings`: recorded in the recipe. `progress(tokens done, tokens in all, by an
    earlier run)` counts a token once a layer. A run that was killed leaves the folder
    `.NAME.work` beside the output: the same call goes on, with the same bytes.
    Raises UsageError, StorageError, DataError (NaN, layers never reached, outliers), TokenizerError.
    """
    started = time.perf_counter()
    target = Path(output)
    check_target(target, Path(input), overwrite)
    if fisher:
        check_torch()
    chosen = choose(read_samples(texts), counts, samples, domains, seed)
    with open_source(os.fspath(input), tokenizer, config, allow_requantize=True) as source:  # type: ignore[arg-type]
        model = f"{source.path.name} sha256 {source_digest(source)}"
    digest = calibration_digest([s.text for s in chosen])
    command = command or "ruvq.calibrate"
    how = (max_tokens, window, diagonal, sensitivity, fisher, seed, command, settings)
    key = repr((model, digest, how, [_name(t) for t in texts]))
    with contextlib.ExitStack() as stack:
        work = stack.enter_context(Workplace(target, hashlib.sha256(key.encode()).hexdigest(), timestamp))
        path = float_model(input, work.folder, tokenizer, config, threads)
        file = stack.enter_context(GGUFFile.open(path))
        window = min(window, int(file.metadata.get(f"{file.architecture}.context_length", window)))
        windows, used = _windows(chosen, Tokenizer.from_gguf(file), window, max_tokens)
        _check_length(windows)
        prober = None
        if sensitivity:
            prober = Prober(path, windows, work.folder, seed=seed, threads=threads, progress=probing)
        names = sorted({_name(t) for t in texts})
        found = None
        if fisher:
            found = collect(
                path, windows, work.folder, diagonal=diagonal, threads=threads, progress=gradients
            )
        plan = _Set(windows, used, window, diagonal, seed, names, model, settings)
        engine = stack.enter_context(
            Engine(file, batch=min(BATCH, window), context=window, kv="f32", threads=threads)
        )
        outliers = _write(target, file, engine, plan, work, command, allow_outliers, progress, prober, found)
    return CalibrationReport(
        output=str(target),
        samples=len(used),
        tokens=plan.tokens,
        windows=len(windows),
        domains=plan.domains,
        digest=plan.digest,
        seed=seed,
        diagonal=diagonal,
        outliers=outliers,
        seconds=round(time.perf_counter() - started, 3),
    )


@dataclass(frozen=True)
class _Set:
    """What is calibrated on, and how."""

    windows: list[list[int]]
    samples: list[Sample]
    window: int
    diagonal: bool
    seed: int
    files: list[str]
    model: str  # name and SHA-256
    settings: Mapping[str, Any] | None

    @property
    def tokens(self) -> int:
        return sum(map(len, self.windows))

    @property
    def domains(self) -> dict[str, int]:
        return dict(Counter(s.domain for s in self.samples))

    @property
    def digest(self) -> str:
        return calibration_digest([s.text for s in self.samples])

    def metadata(self, timestamp: str) -> dict[str, Any]:
        """The artifact's keys: llama.cpp's, where the numbers come from (INV-5), and the very tokens."""
        return {
            "general.type": "imatrix",
            "imatrix.datasets": self.files,
            "imatrix.chunk_count": len(self.windows),
            "imatrix.chunk_size": self.window,
            "ruvq.calibration.digest": self.digest,
            "ruvq.calibration.samples": len(self.samples),
            "ruvq.calibration.tokens": self.tokens,
            "ruvq.calibration.domains": [f"{d}={n}" for d, n in sorted(self.domains.items())],
            "ruvq.calibration.seed": self.seed,
            "ruvq.calibration.timestamp": timestamp,
            "ruvq.calibration.model": self.model.rpartition(" ")[2],
            "ruvq.calibration.windows": Typed([len(w) for w in self.windows], "u32"),
            "ruvq.calibration.ids": Typed([t for w in self.windows for t in w], "u32"),
        }


def _name(text: str) -> str:
    """The file's name in "domain=folder/file"."""
    return Path(text.partition("=")[2] or text).name


def _check_length(windows: Sequence[Sequence[int]]) -> None:
    total = sum(map(len, windows))
    if total < LEAST_TOKENS:
        raise UsageError(
            "too little text to calibrate on",
            subject="text",
            expected=f"at least {LEAST_TOKENS:,} tokens",
            actual=f"{total:,}",
            hint="give more text, or raise --samples and --max-tokens",
        )


def _write(
    target: Path,
    file: GGUFFile,
    engine: Engine,
    plan: _Set,
    work: Workplace,
    command: str,
    allow_outliers: bool,
    progress: Progress | None,
    prober: Prober | None,
    fisher: Mapping[str, Any] | None,
) -> list[str]:
    """Collects layer by layer and writes the artifact; the outliers that were allowed."""
    widths = {t.name: t.shape[-1] for t in file.tensors if len(t.shape) > 1}
    recipe = Recipe(
        command=command,
        seed=plan.seed,
        calibration=plan.digest,
        samples=len(plan.samples),
        source=plan.model,
        timestamp=work.timestamp,
        options={"settings": plan.settings} if plan.settings is not None else {},
    )
    info = engine.info
    specs = [
        layer_specs(info, widths, layer, plan.diagonal, prober is not None)
        for layer in range(info.layers + 1)
    ]
    weighed = fisher_specs(widths, plan.diagonal) if fisher is not None else []
    outliers: list[str] = []
    with GGUFWriter(
        target,
        file.architecture,
        plan.metadata(work.timestamp),
        [*(spec for layer in specs for spec, _ in layer), *weighed],
        recipe=recipe,
        journal=work.journal(),
    ) as writer:
        collector = Collector(engine, plan.windows, work.folder, diagonal=plan.diagonal, progress=progress)
        for _ in write_layers(writer, collector, specs, prober):
            outliers = [
                f"window {w} at {at}: {ratio:.0f} times the median" for w, at, ratio in collector.outliers()
            ]
            if outliers and not allow_outliers:
                raise DataError(
                    "the calibration text holds outliers",
                    subject="; ".join(outliers[:3]),
                    expected="windows of similar activations",
                    actual=f"{len(outliers)} of {len(plan.windows)} windows that would outweigh the others",
                    hint="look at these texts; --allow-outliers takes them as they are",
                )
        write(writer, fisher or {}, weighed)
    return outliers


def _windows(
    samples: Sequence[Sample], encoder: Tokenizer, window: int, max_tokens: int
) -> tuple[list[list[int]], list[Sample]]:
    """Windows of at most `max_tokens` tokens in all, and their samples: one of each domain in turn."""
    queues: dict[str, list[Sample]] = {}
    for sample in samples:
        queues.setdefault(sample.domain, []).append(sample)
    windows: list[list[int]] = []
    used: list[Sample] = []
    left = max_tokens
    while any(queues.values()) and left > 1:
        for queue in queues.values():
            if not queue or left <= 1:
                continue
            sample = queue.pop(0)
            used.append(sample)
            for part in eval_windows(sample.text, encoder, window):
                if left > 1:
                    windows.append(part[:left])
                    left -= len(windows[-1])
    return windows, used
