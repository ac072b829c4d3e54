"""Everything that is known of quantized files of one model, as one dictionary and one page."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from .. import formats
from ..calibrate.run import float_model
from ..quantize.calibration import Calibration
from ..quantize.plan import method_for
from ..runtime.model import Model
from ..sources import open_source
from ..version import __version__
from . import ggml_peer
from .divergence import compare_models
from .files import measure_file
from .metrics import mean, measure
from .schemes import SUPERBLOCK, Matrices, Matrix, Scheme, apply, needs_flat

SAMPLE_MATRICES, SAMPLE_ROWS = 12, 64  # that every format is tried on
FORMATS = (
    "ternary",
    "pi-q2",
    "pi-t2",
    "pi-x2",
    "pi-q3",
    "pi-t3",
    "pi-x3",
    "q2_k",
    "q3_k",
    "q4_k",
    "q5_k",
    "q6_k",
    "q8_0",
)
PEERS = ("iq2_xxs", "iq2_xs", "q2_k", "iq3_xxs", "q3_k", "iq4_xs", "q4_k", "q5_k", "q6_k")

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Options:
    """`against`: the float model, with `tokenizer` and `config` as `open_source` takes them; `text`: for
    perplexity and divergence; `formats`: those to draw error against bits for."""

    against: str
    tokenizer: str | None = None
    config: str | None = None
    calibration: str | None = None
    text: str | None = None
    max_tokens: int | None = None
    formats: tuple[str, ...] = ()
    peers: bool = True
    threads: int | None = None


def default_formats() -> tuple[str, ...]:
    """FORMATS, as far as they can be written."""
    known = set(formats.writable_names())
    return tuple(name for name in FORMATS if name in known)


def build_report(
    files: Sequence[str | os.PathLike[str]], options: Options, progress: Progress | None = None
) -> dict[str, Any]:
    """The figures of all files, and of the formats on some of the source's rows, for JSON and for the page.

    `progress(done, total, what)`. Raises what opening the files raises, and ModelError where they don't
    belong to the float model.
    """

    def step(done: int, total: int, what: str) -> None:
        if progress is not None:
            progress(done, total, what)

    out: dict[str, Any] = {"ruvq": __version__, "against": options.against, "files": [], "formats": []}
    with open_source(options.against, options.tokenizer, options.config, allow_requantize=True) as source:
        calibration = None if options.calibration is None else Calibration.open(options.calibration)
        try:
            for path in files:
                name = os.path.basename(path)
                figures = measure_file(path, source, calibration, progress=partial(_named, step, name))
                out["files"].append(figures.as_dict())
        finally:
            if calibration is not None:
                calibration.close()
        out |= {"model": source.name, "architecture": source.architecture, "weights": source.weights}
    if options.text is not None:
        _add_predictions(out["files"], files, options, step)
    if options.formats:
        out["formats"] = error_against_bits(options, step)
    return out


def _named(step: Progress, name: str, done: int, total: int, what: str | float) -> None:
    """A step of a file: its matrix's name, or the perplexity so far."""
    step(done, total, f"{name}: {what}" if isinstance(what, str) else f"{name}: perplexity {what:.3f}")


def _add_predictions(
    entries: list[dict[str, Any]],
    files: Sequence[str | os.PathLike[str]],
    options: Options,
    step: Progress,
) -> None:
    """Perplexity and divergence of each file, from the float model's predictions."""
    assert options.text is not None
    files_of = options.tokenizer, options.config
    with (
        tempfile.TemporaryDirectory(prefix="ruvq-report-") as folder,
        float_model(options.against, Path(folder), *files_of, options.threads) as path,
        Model.open(path, kv="f32", threads=options.threads) as reference,
    ):
        for entry, file in zip(entries, files, strict=True):
            name = os.path.basename(file)
            with Model.open(file, threads=options.threads) as model:
                found = compare_models(
                    model,
                    reference,
                    options.text,
                    max_tokens=options.max_tokens,
                    progress=partial(_named, step, name),
                )
            entry["predictions"] = {
                "perplexity": float(found.perplexity),
                "stderr": found.perplexity.stderr,
                "tokens": found.tokens,
                "windows": found.windows,
                **found.as_dict(),
            }


def error_against_bits(options: Options, step: Progress) -> list[dict[str, Any]]:
    """Every format on the same rows of the source's matrices: mean signal to noise, bits per weight. Each as
    it is written without calibration; ggml's own encoders beside them where they are installed."""
    rows: list[dict[str, Any]] = []
    schemes = [Scheme(name, name, hadamard=bool(method_for(name, "auto"))) for name in options.formats]
    if options.peers and ggml_peer.available():
        schemes += [Scheme(f"ggml {name}", name, peer=True, importance=True) for name in PEERS]
    with Matrices(
        options.against,
        tokenizer=options.tokenizer,
        config=options.config,
        rows=SAMPLE_ROWS,
        most=SAMPLE_MATRICES,
    ) as matrices:
        listed = list(matrices)
    for at, scheme in enumerate(schemes):
        step(at, len(schemes), scheme.label)
        row = _tried(scheme, listed)
        if row is not None:
            rows.append(row)
    step(len(schemes), len(schemes), "")
    return rows


def _tried(scheme: Scheme, matrices: Sequence[Matrix]) -> dict[str, Any] | None:
    """A format's figures over all matrices that it can hold, at worst in rows of 256."""
    found, sizes, bits = [], [], 0.0
    for matrix in matrices:
        flat = needs_flat(scheme.format, matrix.width)
        if flat and matrix.values.size % SUPERBLOCK:
            continue
        outcome = apply(Scheme(**{**scheme.__dict__, "flat": flat}), matrix)
        found.append(measure(matrix.values, outcome.decoded))
        sizes.append(matrix.values.size)
        bits += outcome.bits * matrix.values.size
    if not found:
        return None
    return {
        "label": scheme.label,
        "encoder": "ggml" if scheme.peer else "ruvq",
        "preparation": scheme.preparation,
        "bits_per_weight": bits / sum(sizes),
        **mean(found, sizes).as_dict(),
    }
