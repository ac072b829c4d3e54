"""`qat`: a float model and texts in, a trained GGUF file out."""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..adapters.gguf_adapter import to_gguf, write_gguf_adapter
from ..errors import ModelError, TokenizerError, UsageError
from ..quantize.checks import check_target
from ..quantize.metadata import source_digest
from ..settings_file import Sections
from ..sources import Source, open_source
from .config import REFERENCES, QatConfig
from .data import Record, Stream, read_records, tokenize, tokenizer_of
from .datasets import read_dataset
from .events import Events
from .export import export_gguf
from .held import hold_frozen, prepare_lora
from .kept_start import digest_of, ingredients, kept_start
from .layers import prepare_qat
from .loop import Evaluation, RunOptions, Trainer
from .lora import add_adapters, lora_of, pack_base, save_adapters
from .memory import give_back_freed, peak_bytes, reset_peak
from .models import load_model
from .processes import Processes
from .start import FLOAT, PTQ, make_start, start_model, take_codes
from .teacher import CachedTeacher, ModelTeacher, Teacher, open_teacher

HELD_OUT = 0.04  # share of the pieces that is evaluated on where no text is given for it
AUTO_RATE = 0.01  # of each matrix's size (optimizer.py), where no learning rate is given
SELF, NONE = "self", "none"
EVALUATED = 1024  # windows of held-out text that a cache of logits has room for


@dataclass(frozen=True)
class Work:
    """Where and how a run happens, and what it reads beside the model; see `ruvq qat --help`."""

    teacher: str = SELF
    teacher_cache: str | None = None
    eval_texts: Sequence[str] = ()
    dataset: str | None = None
    dataset_fields: Sequence[str] = ()
    dataset_split: str = "train"
    device: str = "cpu"
    threads: int | None = None
    gradient_checkpointing: bool = False
    allow_float_layers: bool = False
    resume: bool = False
    events: str | None = None
    tensorboard: str | None = None
    adapters: str | None = None
    ship_adapter: str | None = None
    start: str = FLOAT
    calibration: str | None = None


@dataclass(frozen=True)
class QatReport:
    """What a run did. Perplexities are of the held-out text, in windows of the run; `start` is what the model
    has before training (plain quantization), `perplexity` the best state's, which is what was exported;
    `peak_bytes`: most memory that the process held on the CPU."""

    output: str
    format: str
    bits_per_weight: float
    bits_per_weight_actual: float
    file_bytes: int
    steps: int
    tokens: int
    seconds: float
    best_step: int
    perplexity_float: float
    perplexity_start: float
    perplexity: float
    kl: float | None
    peak_bytes: int
    device: str
    resumed: bool
    settings: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def split(records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """Records to train on and to evaluate on: evenly spread over the text. One record serves for both."""
    count = max(1, round(len(records) * HELD_OUT))
    if len(records) < 3:
        return list(records), list(records)
    chosen = {i * len(records) // count for i in range(count)}
    return (
        [r for i, r in enumerate(records) if i not in chosen],
        [r for i, r in enumerate(records) if i in chosen],
    )


def device_of(name: str) -> torch.device:
    """ "cpu", "cuda" or "auto". UsageError when it isn't there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(
            "there is no such device", subject="device", expected="a CUDA device that torch sees",
            actual="none", hint="use --device cpu",
        )  # fmt: skip
    return torch.device(name)


def qat(
    model: str | os.PathLike[str],
    texts: Sequence[str],
    output: str | os.PathLike[str],
    config: QatConfig,
    options: RunOptions,
    work: Work,
    *,
    tokenizer: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    command: str | None = None,
    timestamp: str | None = None,
    progress: Callable[[float, str], None] | None = None,
    settings: Sections | None = None,
) -> QatReport:
    """Trains `model` with its quantization in the loop and writes the GGUF file.

    `model`, `tokenizer`: what `ruvq.quantize_model` reads, a quantized GGUF file too. `texts`: what
    `read_records` reads, beside the data set that `work` names. `settings`: what to record as the run's
    configuration (None: `config`). Raises UsageError, StorageError, ModelError, TokenizerError, DataError
    (the loss isn't finite), MemoryLimitError.
    """
    started = time.perf_counter()
    give_back_freed()
    reset_peak()
    settings = config.sections() if settings is None else settings
    check_target(Path(output), Path(model), overwrite)
    if work.ship_adapter:
        _check_shipping(work.ship_adapter, output, model, config, overwrite)
    device = device_of(work.device)
    if work.threads:
        torch.set_num_threads(work.threads)
    torch.manual_seed(config.seed % 2**63)
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(open_source(os.fspath(model), tokenizer, allow_requantize=True))  # type: ignore[arg-type]
        train, held_out = _streams(source, texts, work)
        start_file = _start_file(work, texts, config, options, source, tokenizer, stack)
        student = student_of(source, start_file, config, work, device)
        floats = _floats(source, config, device)
        teacher = _teacher(work, source, floats, train, options, device, tokenizer)
        events = stack.enter_context(Events(work.events, work.tensorboard))
        trainer = Trainer(
            student, config, options, train, held_out, teacher, events, progress,
            start=digest_of(start_file) if start_file else FLOAT,
        )  # fmt: skip
        resumed = work.resume and trainer.resume()
        start = _start(trainer)
        state = trainer.run()
        best, peak = trainer.evaluate(), peak_bytes()
        spent = round(time.perf_counter() - started, 2)
        events.write("end", state.step, tokens=state.tokens, seconds=spent, peak_bytes=peak)
        if trainer.processes.rank:  # the first process writes
            return trainer.processes.share(None)
        if work.adapters:
            save_adapters(student, work.adapters, Path(model).name)
        if work.ship_adapter:
            shipped = to_gguf(lora_of(student, Path(output).name), source.parameters)
            write_gguf_adapter(work.ship_adapter, shipped, type="f32")
        report = export_gguf(
            student, output, source, overwrite=overwrite, command=command, timestamp=timestamp,
            options={
                "source": source_digest(source), "steps": state.step, "tokens": state.tokens,
                "settings": settings,
            },
        )  # fmt: skip
        perplexity_float = _float_evaluation(trainer, floats()).perplexity
    result = QatReport(
        output=str(output),
        format=config.format,
        bits_per_weight=report.bits_per_weight,
        bits_per_weight_actual=report.bits_per_weight_actual,
        file_bytes=report.file_bytes,
        steps=state.step,
        tokens=state.tokens,
        seconds=round(time.perf_counter() - started, 2),
        best_step=state.best_step,
        perplexity_float=perplexity_float,
        perplexity_start=start.perplexity,
        perplexity=best.perplexity,
        kl=best.kl,
        peak_bytes=peak,
        device=str(device),
        resumed=bool(resumed),
        settings=settings,
    )
    return trainer.processes.share(result)


def student_of(
    source: Source, start_file: Path | None, config: QatConfig, work: Work, device: torch.device
) -> nn.Module:
    """The model that is trained, prepared; from `start_file`, a quantized file of it, if there is one."""
    halves = _halves(config) and start_file is None
    model = start_model(start_file, source.parameters) if start_file else load_model(source, halves=halves)
    model.to(device)
    if work.gradient_checkpointing:
        model.gradient_checkpointing_enable()  # type: ignore[operator]
    if halves and not work.ship_adapter:
        return prepare_lora(model, config, allow_float_layers=work.allow_float_layers)
    prepare_qat(model, config, allow_float_layers=work.allow_float_layers)
    if start_file:
        take_codes(model, start_file, config, source.parameters)
    if not config.use_lora:
        return model
    add_adapters(model, config)
    return pack_base(model) if work.ship_adapter else hold_frozen(model)


def _halves(config: QatConfig) -> bool:
    """Whether matrices may stay in the 16 bits that they come in: where they don't learn."""
    return config.use_lora and config.format not in REFERENCES


def _floats(source: Source, config: QatConfig, device: torch.device) -> Callable[[], nn.Module]:
    """The float model, read when it is first asked for."""
    return cache(lambda: load_model(source, halves=_halves(config)).to(device))


def _check_shipping(
    adapter: str,
    output: str | os.PathLike[str],
    model: str | os.PathLike[str],
    config: QatConfig,
    overwrite: bool,
) -> None:
    """UsageError where there will be no adapter, or no place for it."""
    if not config.use_lora or Path(adapter).suffix != ".gguf" or Path(adapter) == Path(output):
        raise UsageError(
            "an adapter can't be shipped so", subject="--ship-adapter",
            expected="--use-lora, and a FILE.gguf of its own",
            actual=adapter if config.use_lora else "no --use-lora",
        )  # fmt: skip
    check_target(Path(adapter), Path(model), overwrite)


def _start_file(
    work: Work,
    texts: Sequence[str],
    config: QatConfig,
    options: RunOptions,
    source: Source,
    tokenizer: Any,
    stack: contextlib.ExitStack,
) -> Path | None:
    """The quantized file that training starts from, made where that is asked for; None without one."""
    if work.start == FLOAT:
        return None
    if work.start != PTQ:
        return Path(work.start)
    folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ruvq-start-")))

    def make(working: Path) -> Path:
        return make_start(
            source.path, texts, working, config, tokenizer=tokenizer, calibration=work.calibration,
            threads=work.threads,
        )  # fmt: skip

    return kept_start(folder, ingredients(source, texts, config, work.calibration), make, Processes())


def _streams(source: Source, texts: Sequence[str], work: Work) -> tuple[Stream, Stream]:
    records = read_records(texts) if texts or work.dataset is None else []
    if work.dataset is not None:
        records += read_dataset(work.dataset, work.dataset_fields, work.dataset_split)
    if work.eval_texts:
        train, held_out = records, read_records(work.eval_texts)
    else:
        train, held_out = split(records)
    tokenizer, vocab = tokenizer_of(source), source.parameters.vocab_size
    return tokenize(train, tokenizer, vocab), tokenize(held_out, tokenizer, vocab)


def _teacher(
    work: Work,
    source: Source,
    floats: Callable[[], nn.Module],
    train: Stream,
    options: RunOptions,
    device: torch.device,
    tokenizer: Any,
) -> Teacher | None:
    if work.teacher == NONE:
        return None
    vocab = source.parameters.vocab_size
    if work.teacher == SELF:
        model = ModelTeacher(floats(), vocab)
    else:
        model, theirs = open_teacher(
            work.teacher, vocab, _tokenizer_for(work.teacher, source, tokenizer), str(device)
        )
        if _tokens(theirs) != _tokens(source.tokenizer):
            raise TokenizerError(
                "the teacher has another vocabulary", subject=work.teacher, expected="the student's tokens",
                actual="other tokens", hint="distil from a model with the same tokenizer",
            )  # fmt: skip
    if work.teacher_cache is None:
        return model
    windows = len(train.tokens) // options.window + EVALUATED
    return CachedTeacher(work.teacher_cache, model, windows, options.window, vocab)


def _tokens(tokenizer: Any) -> list[Any]:
    tokens = tokenizer.metadata()["tokenizer.ggml.tokens"]
    return list(getattr(tokens, "value", tokens))


def _tokenizer_for(teacher: str, source: Source, tokenizer: Any) -> Any:
    """A llama2.c teacher comes without a tokenizer: it takes the student's."""
    if Path(teacher).suffix != ".bin":
        return None
    return tokenizer or getattr(source.tokenizer, "path", None)


def _start(trainer: Trainer) -> Evaluation:
    found = trainer.evaluate()
    if not math.isfinite(found.loss):
        raise ModelError(
            "the model doesn't predict the text at all", subject="loss", expected="a finite loss",
            actual=str(found.loss), hint="the model or its tokenizer is damaged",
        )  # fmt: skip
    return found


def _float_evaluation(trainer: Trainer, floats: nn.Module) -> Evaluation:
    """The float model on the held-out text."""
    trainer.model, trainer.teacher = floats.eval(), None
    return trainer.evaluate()
