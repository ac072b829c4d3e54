"""Gate G2 by training: each rung of the ladder is a run of `qat`, the last one plain quantization."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..evaluate.gate_g2 import MEMORY_LIMIT, Asked, GateG2, Rung, compare, ladder, read_journal
from ..quantize.checks import check_target
from ..quantize.pipeline import quantize_model
from .config import QatConfig
from .loop import RunOptions
from .run import Work, qat

RANKS = (16, 8, 4)
KD_TIMES = 4.0
PTQ = "PTQ"


@dataclass(frozen=True)
class Job:
    """What is trained and on what; `calibration` is for the rung without training."""

    model: str
    texts: Sequence[str]
    config: QatConfig
    options: RunOptions
    work: Work
    tokenizer: str | None = None
    calibration: str | None = None
    memory_limit: int = MEMORY_LIMIT


def ways(config: QatConfig) -> dict[str, QatConfig | None]:
    """The first way and the ladder's, by name; None stands for quantization without training."""
    ranks = [rank for rank in RANKS if not config.use_lora or rank < config.lora_rank]
    out: dict[str, QatConfig | None] = {_name(config): config}
    for rank in ranks:
        changed = config.changed(use_lora=True, lora_rank=rank)
        out[_name(changed)] = changed
    more = config.changed(beta_kd=KD_TIMES * (config.beta_kd or 0.25))
    out[f"{_name(config)}, KD weight {more.beta_kd:g}"] = more
    out[PTQ] = None
    return out


def _name(config: QatConfig) -> str:
    return f"LoRA-QAT, rank {config.lora_rank}" if config.use_lora else "QAT"


def gate_g2(
    job: Job,
    asked: Asked,
    *,
    climb: bool = False,
    keep: str | os.PathLike[str] | None = None,
    progress: Callable[[str, float, str], None] | None = None,
) -> GateG2:
    """Trains as `job.config` says, with `climb` also the ladder's ways until one goes, and measures each.

    `keep`: where the last file goes, if it is to be kept. `progress(way, share done, text)`. Raises as `qat`.
    """
    if keep is not None:
        check_target(Path(keep), Path(job.model), overwrite=True)  # before hours of training
    chosen = ways(job.config)
    with tempfile.TemporaryDirectory(prefix="ruvq-gate-") as name:
        folder = Path(name)
        whole = folder / "float.gguf"
        quantize_model(job.model, whole, "f32", tokenizer=job.tokenizer, progress=False)

        def attempt(way: str) -> Rung:
            trained, journal, config = folder / "trained.gguf", folder / "run.jsonl", chosen[way]
            journal.unlink(missing_ok=True)
            if config is None:
                quantize_model(
                    job.model, trained, job.config.format, tokenizer=job.tokenizer, progress=False,
                    calibration=job.calibration, overwrite=True,
                    embeddings="same" if job.config.embeddings else "f16",
                    output_tensor="same" if job.config.embeddings else "f16",
                )  # fmt: skip
                return Rung(way, None, compare(whole, trained, asked))
            qat(
                job.model, job.texts, trained, config, job.options, replace(job.work, events=str(journal)),
                tokenizer=job.tokenizer, overwrite=True,
                progress=lambda done, text: progress(way, done, text) if progress else None,
            )  # fmt: skip
            return Rung(way, read_journal(journal), compare(whole, trained, asked), job.memory_limit)

        first, *rest = chosen
        found = ladder(first, rest, attempt, climb)
        if keep is not None:
            _keep(folder / "trained.gguf", Path(keep))
    return found


def _keep(made: Path, target: Path) -> None:
    import shutil

    part = target.with_name(f".{target.name}.part")
    shutil.copyfile(made, part)
    os.replace(part, target)
