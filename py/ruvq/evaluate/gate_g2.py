"""Gate G2: does training with the quantization in the loop converge, fit, and keep what the floats know?

It goes where training converges within the memory that is allowed, and where the trained file loses at most
20 % of perplexity, 15 points of GSM8K, 10 of HumanEval, 5 of tool use and 5 of long context. What can't be
measured on the model given is said with the reason, and decides nothing.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import StorageError, UsageError
from ..runtime.model import Model
from .gate import Gate
from .perplexity import perplexity
from .tables import render
from .tasks import Task, fitting, score

PERPLEXITY_LIMIT = 20.0  # per cent
MEMORY_LIMIT = 2 << 30
SLACK = 1.02  # the last held-out loss may be that much over the best
MEASURES = ("gsm8k", "humaneval", "tool use", "long context")


@dataclass(frozen=True)
class Measure:
    """One line. `change`: percent for perplexity, points for tasks; None where it can't be measured, and then
    `reason` says why."""

    name: str
    unit: str
    limit: float
    before: float | None = None
    after: float | None = None
    change: float | None = None
    reason: str = ""

    @property
    def ok(self) -> bool:
        """Within the limit, or not measurable."""
        if self.change is None:
            return True
        return self.change <= self.limit if self.unit == "%" else self.change >= -self.limit


@dataclass(frozen=True)
class Training:
    """What a run's journal (`ruvq qat --events`) tells. Losses are of held-out text, in nats a token."""

    converged: bool
    first: float
    best: float
    last: float
    steps: int
    seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Rung:
    """One way that was tried: its name, what training did (None without), and the measures of the file."""

    name: str
    training: Training | None
    measures: tuple[Measure, ...]
    memory_limit: int = MEMORY_LIMIT

    @property
    def failures(self) -> tuple[str, ...]:
        """What isn't within its limit."""
        out = [m.name for m in self.measures if not m.ok]
        if self.training is not None:
            out += [] if self.training.converged else ["convergence"]
            out += [] if self.training.peak_bytes <= self.memory_limit else ["memory"]
        return tuple(out)

    @property
    def go(self) -> bool:
        """Everything that was measured is within its limit."""
        return not self.failures

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "go": self.go,
            "failures": list(self.failures),
            "training": asdict(self.training) if self.training else None,
            "measures": [{**asdict(m), "ok": m.ok} for m in self.measures],
        }


@dataclass
class GateG2(Gate):
    """The result; `rungs` in the order they were tried, the last one decides."""

    NAME = "g2"
    ROLLBACK = (
        "the plan's ladder: adapters of rank 16, 8, 4; more weight on the distillation; then quantization "
        "without training. `--ladder` tries them"
    )
    rungs: list[Rung] = field(default_factory=list)

    @property
    def go(self) -> bool:
        return bool(self.rungs) and self.rungs[-1].go

    def figures(self) -> dict[str, Any]:
        return {"rungs": [rung.as_dict() for rung in self.rungs]}

    def table(self, markdown: bool = False) -> str:
        rows: list[tuple[str, ...]] = [("way", "measure", "float", "trained", "change", "limit", "")]
        for rung in self.rungs:
            if rung.training is not None:
                t = rung.training
                change = f"{t.best - t.first:+.3f}"
                rows.append((rung.name, "held-out loss, nats", f"{t.first:.3f}*", f"{t.best:.3f}", change,
                             "falls", "ok" if t.converged else "no"))  # fmt: skip
                fits = t.peak_bytes <= rung.memory_limit
                rows.append((rung.name, "peak memory, MB", "", f"{t.peak_bytes / 1e6:.0f}", "",
                             f"{rung.memory_limit / 1e6:.0f}", "ok" if fits else "no"))  # fmt: skip
            rows += [_row(rung.name, m) for m in rung.measures]
        return render(rows, markdown, 2) + "\n* before training, quantized"

    def findings(self) -> list[str]:
        out = []
        for rung in self.rungs:
            found = "go" if rung.go else "no: " + ", ".join(rung.failures)
            out.append(f"{rung.name}: {found}")
        if self.rungs:
            out += [f"{m.name}: not measured: {m.reason}" for m in self.rungs[-1].measures if m.reason]
        return out


def _row(name: str, m: Measure) -> tuple[str, ...]:
    if m.change is None:
        return (name, m.name, "", "", "not measured", f"{m.limit:g} {m.unit}", "")
    assert m.before is not None
    assert m.after is not None
    return (name, m.name, f"{m.before:.2f}", f"{m.after:.2f}", f"{m.change:+.1f} {m.unit}",
            f"{m.limit:g} {m.unit}", "ok" if m.ok else "no")  # fmt: skip


def read_journal(path: str | os.PathLike[str]) -> Training:
    """A run from its journal. StorageError, UsageError (no journal, or one of a run that didn't end)."""
    try:
        lines = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines() if line]
    except OSError as error:
        raise StorageError("the journal can't be read", subject=str(path), actual=str(error)) from error
    except ValueError as error:
        raise UsageError("not a journal", subject=str(path), actual=str(error)[:80]) from error
    losses = [line.get("loss") for line in lines if line.get("event") == "eval"]
    ends = [line for line in lines if line.get("event") == "end"]
    if len(losses) < 2 or not ends:
        raise UsageError(
            "the journal has no whole run", subject=str(path), expected="evaluations and an end",
            actual=f"{len(losses)} evaluations", hint="it is what `ruvq qat --events FILE` writes",
        )  # fmt: skip
    values = [math.inf if loss is None else float(loss) for loss in losses]
    best, end = min(values), ends[-1]
    converged = math.isfinite(values[-1]) and best < values[0] and values[-1] <= SLACK * best
    return Training(converged, values[0], best, values[-1], end["step"], end["seconds"], end["peak_bytes"])


@dataclass(frozen=True)
class Asked:
    """What files are compared on. `missing`: why a task isn't there, by its name."""

    text: str
    tasks: Sequence[Task] = ()
    missing: dict[str, str] = field(default_factory=dict)
    max_tokens: int | None = None
    questions: int = 50


def compare(whole: str | Path, trained: str | Path, asked: Asked) -> tuple[Measure, ...]:
    """Every measure of a trained file against the float model's file."""
    out = []
    with Model.open(whole, kv="f32") as before, Model.open(trained) as after:
        a, b = (float(perplexity(m, asked.text, max_tokens=asked.max_tokens)) for m in (before, after))
        out.append(Measure("perplexity", "%", PERPLEXITY_LIMIT, a, b, 100 * (b / a - 1)))
        by_name = {task.name: task for task in asked.tasks}
        for name in MEASURES:
            if name in by_name:
                out.append(_task(before, after, by_name[name], asked.questions))
            else:
                limit = {"gsm8k": 15.0, "humaneval": 10.0}.get(name, 5.0)
                out.append(Measure(name, "points", limit, reason=asked.missing.get(name, "no questions")))
    return tuple(out)


def _task(before: Model, after: Model, task: Task, count: int) -> Measure:
    none = Measure(task.name, "points", task.limit)
    questions = fitting(before, task, count)
    if not questions:
        reason = f"no question fits into the context of {before.info.context_tokens:,} tokens"
        return replace(none, reason=reason)
    whole = score(before, task, questions)
    if not whole.right:
        reason = f"the float model answers none of {whole.asked} questions: there is nothing to lose"
        return replace(none, reason=reason)
    found = score(after, task, questions)
    change = found.percent - whole.percent
    return Measure(task.name, "points", task.limit, whole.percent, found.percent, change)


def ladder(first: str, ways: Sequence[str], attempt: Callable[[str], Rung], climb: bool) -> GateG2:
    """Tries the first way, and with `climb` the others until one goes."""
    gate = GateG2(rungs=[attempt(first)])
    for way in ways if climb else ():
        if gate.go:
            break
        gate.rungs.append(attempt(way))
    return gate
