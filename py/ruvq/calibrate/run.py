"""`calibrate`: a float model and texts in, an artifact for `ruvq quantize --calibration` out."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError, UsageError
from ..gguf import GGUFFile
from ..gguf.recipe import Recipe, calibration_digest, timestamp_now
from ..quantize.pipeline import check_target, quantize_model, source_digest
from ..runtime.engine import Engine
from ..runtime.tokenizer import Tokenizer
from ..runtime.windows import WINDOW, eval_windows
from ..sources import open_source
from .artifact import write_artifact
from .collect import BATCH, collect
from .samples import Sample, choose, read_samples

LEAST_TOKENS = 1024  # fewer say nothing about any model
FLOATS = ("f32", "f16", "bf16")


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
    allow_outliers: bool = False,
    seed: int = 0,
    threads: int | None = None,
    timestamp: str | None = None,
    overwrite: bool = False,
    command: str | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
    probing: Callable[[int, int], None] | None = None,
) -> CalibrationReport:
    """Runs the model on text and writes second moments of all inputs to `output`.

    `input`: what `quantize_model` takes. `texts`: files, each "domain=PATH" or a path (plain text or JSONL).
    `domains`, `counts`, `samples`: which samples are used, see `choose`. `max_tokens`: at most so many, taken
    from the samples in turn over the domains. `window`: tokens of a context. `diagonal`: an importance matrix
    only. `sensitivity`: also what an error in each matrix costs, for `quantize_model(target_bpw=...)`: one
    run of about a thousand tokens for each. `settings`: recorded in the recipe. `progress(tokens done, in
    all)`, `probing(matrices done, in all)`.
    Raises UsageError, StorageError, DataError (NaN, layers never reached, outliers), TokenizerError.
    """
    started = time.perf_counter()
    target = Path(output)
    check_target(target, Path(input), overwrite)
    chosen = choose(read_samples(texts), counts, samples, domains, seed)
    with open_source(os.fspath(input), tokenizer, config, allow_requantize=True) as source:  # type: ignore[arg-type]
        digest_of_model = source_digest(source)
        name, architecture = source.path.name, source.architecture
    with float_model(input, target.parent, tokenizer, config, threads) as path, GGUFFile.open(path) as file:
        encoder = Tokenizer.from_gguf(file)
        windows, used = _windows(chosen, encoder, window, max_tokens)
        total = sum(map(len, windows))
        if total < LEAST_TOKENS:
            raise UsageError(
                "too little text to calibrate on",
                subject="text",
                expected=f"at least {LEAST_TOKENS:,} tokens",
                actual=f"{total:,}",
                hint="give more text, or raise --samples and --max-tokens",
            )
        with Engine(file, batch=min(BATCH, window), context=window, kv="f32", threads=threads) as engine:
            moments = collect(
                engine,
                windows,
                diagonal=diagonal,
                progress=None if progress is None else lambda done: progress(done, total),
            )
        measured: dict[str, Any] = {}
        if sensitivity:
            from .sensitivity import measure_sensitivity

            with tempfile.TemporaryDirectory(prefix=".ruvq-calibrate-", dir=target.parent) as folder:
                measured = measure_sensitivity(
                    path, windows, Path(folder), seed=seed, threads=threads, progress=probing
                )
        widths = {t.name: t.shape[-1] for t in file.tensors if len(t.shape) > 1}
        if "output.weight" in widths:
            widths.pop("token_embd.weight", None)  # an embedding of its own is looked up, not multiplied
    outliers = [f"window {w} at {at}: {ratio:.0f} times the median" for w, at, ratio in moments.outliers]
    if outliers and not allow_outliers:
        raise DataError(
            "some of the text is far from the rest",
            subject=outliers[0] + (f", and {len(outliers) - 1} more" if len(outliers) > 1 else ""),
            expected="windows of comparable activations",
            actual=f"{len(outliers)} of {len(windows)} windows that would outweigh the others",
            hint="look at these texts; --allow-outliers takes them as they are",
        )
    digest = calibration_digest([s.text for s in used])
    moment = timestamp if timestamp is not None else timestamp_now()
    per_domain = dict(Counter(s.domain for s in used))
    metadata = {
        "imatrix.datasets": sorted({Path(t.partition("=")[2] or t).name for t in texts}),
        "imatrix.chunk_count": len(windows),
        "imatrix.chunk_size": window,
        "ruvq.calibration.digest": digest,
        "ruvq.calibration.samples": len(used),
        "ruvq.calibration.tokens": moments.tokens,
        "ruvq.calibration.domains": [f"{d}={n}" for d, n in sorted(per_domain.items())],
        "ruvq.calibration.seed": seed,
        "ruvq.calibration.timestamp": moment,
        "ruvq.calibration.model": digest_of_model,
        **measured,
    }
    recipe = Recipe(
        command=command or "ruvq.calibrate",
        seed=seed,
        calibration=digest,
        samples=len(used),
        source=f"{name} sha256 {digest_of_model}",
        timestamp=moment,
        options={"settings": settings} if settings is not None else {},
    )
    write_artifact(target, architecture, moments, widths, metadata, recipe)
    return CalibrationReport(
        output=str(target),
        samples=len(used),
        tokens=moments.tokens,
        windows=len(windows),
        domains=per_domain,
        digest=digest,
        seed=seed,
        diagonal=diagonal,
        outliers=outliers,
        seconds=round(time.perf_counter() - started, 3),
    )


@contextlib.contextmanager
def float_model(
    input: str | os.PathLike[str],
    folder: Path,
    tokenizer: str | os.PathLike[str] | None,
    config: str | os.PathLike[str] | None,
    threads: int | None,
) -> Iterator[Path]:
    """The input as a GGUF file that the engine maps: as it is, or converted into a temporary folder."""
    if Path(input).suffix == ".gguf":
        yield Path(input)
        return
    with open_source(os.fspath(input), tokenizer, config) as source:  # type: ignore[arg-type]
        stored = Counter(t.dtype.lower() for t in source.tensors.values() if len(t.shape) > 1)
    format = stored.most_common(1)[0][0]
    with tempfile.TemporaryDirectory(prefix=".ruvq-calibrate-", dir=folder) as temporary:
        path = Path(temporary) / "model.gguf"
        quantize_model(
            input,
            path,
            format if format in FLOATS else "f32",
            tokenizer=tokenizer,
            config=config,
            threads=threads,
            progress=False,
        )
        yield path


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
