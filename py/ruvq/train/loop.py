"""The training loop: batches, losses, steps, evaluations, checkpoints."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import DataError, MemoryLimitError
from . import checkpoint
from .config import QatConfig
from .data import Batches, Stream
from .events import Events
from .losses import Losses, total_loss
from .optimizer import make_optimizer
from .processes import Processes
from .schedule import Budget, learning_rate_factor
from .teacher import CachedTeacher, Teacher

CLIP = 1.0  # of the gradients' norm
OUT_OF_MEMORY = (
    "lower --batch-size or --window (and raise --gradient-accumulation), or use --gradient-checkpointing "
    "or --use-lora"
)


@dataclass(frozen=True)
class RunOptions:
    """What isn't part of the settings that a model is trained with.

    `window`: tokens; `steps`: at most (None: what `config.epochs` give); `max_seconds` of training;
    `learning_rate`: "auto" takes a share of each matrix's root mean square in place of the settings' rate;
    `eval_every` steps; `patience`: evaluations without progress before it stops (0: never); `folder` for
    checkpoints, written every `save_seconds`; `precision`: "float32" or "bfloat16".
    """

    window: int = 128
    steps: int | None = None
    max_seconds: float | None = None
    auto_rate: float | None = None
    eval_every: int = 100
    eval_windows: int = 40
    patience: int = 0
    folder: Path | None = None
    save_seconds: float = 60.0
    precision: str = "float32"
    log_every: int = 10


@dataclass
class Progress:
    """Where a run is."""

    step: int = 0
    tokens: int = 0
    best_loss: float = math.inf
    best_step: int = 0
    stale: int = 0  # evaluations since the best


@dataclass(frozen=True)
class Evaluation:
    """Mean loss per token, KL from the teacher (None without one) and its mean over reasoning steps."""

    loss: float
    kl: float | None
    reasoning: float | None

    @property
    def perplexity(self) -> float:
        """exp of the loss."""
        return math.exp(min(self.loss, 700))


class Trainer:
    """Trains a prepared model; see `run`."""

    def __init__(
        self,
        model: nn.Module,
        config: QatConfig,
        options: RunOptions,
        train: Stream,
        held_out: Stream,
        teacher: Teacher | None = None,
        events: Events | None = None,
        progress: Callable[[float, str], None] | None = None,
        *,
        start: str = "float",
    ) -> None:
        """`start`: what the model was before training, as a checkpoint remembers it."""
        self.start = start
        self.config, self.options, self.teacher = config, options, teacher
        self.events, self.report = events or Events(), progress or (lambda done, text: None)
        self.processes = Processes()
        self.model = model
        self.device = next(model.parameters()).device
        self.optimizer = make_optimizer(model, config, options.auto_rate)
        fixed = isinstance(teacher, CachedTeacher)
        self.batches = Batches(train, options.window, config.batch_size, config.seed, fixed=fixed)
        self.held_out = held_out
        self.per_step = config.gradient_accumulation * self.processes.count
        epochs = math.ceil(config.epochs * self.batches.per_epoch / self.per_step)
        self.budget = Budget(options.steps or max(1, epochs), options.max_seconds)
        self.state = Progress()
        self.wrapped = self.processes.wrap(model)

    # ---- one step ----

    def _forward(self, number: int) -> Losses:
        tokens, steps = (torch.from_numpy(a).to(self.device) for a in self.batches[number])
        with self._precision():
            logits = self.wrapped(tokens, use_cache=False).logits
            guide = self.teacher.logits(tokens) if self.teacher is not None else None
        return total_loss(logits, guide, tokens, steps, self.config)

    def _precision(self) -> Any:
        if self.options.precision == "bfloat16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return contextlib.nullcontext()

    def step(self) -> dict[str, float]:
        """One optimiser step: the means of its losses, and the gradients' norm."""
        self.model.train()
        factor = learning_rate_factor(self.budget.done(self.state.step), self.config.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * factor
        sums: dict[str, float] = {}
        accumulated = self.config.gradient_accumulation
        for micro in range(accumulated):
            number = (self.state.step * accumulated + micro) * self.processes.count + self.processes.rank
            with self.processes.accumulate(self.wrapped, micro == accumulated - 1):
                losses = self._forward(number)
                (losses.total / accumulated).backward()
            for name, value in losses.floats().items():
                sums[name] = sums.get(name, 0.0) + value / accumulated
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), CLIP))
        if not (math.isfinite(norm) and math.isfinite(sums["total"])):
            raise self._diverged(sums["total"], norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.state.step += 1
        self.state.tokens += self.per_step * self.config.batch_size * self.batches.size
        return {**sums, "grad_norm": norm, "learning_rate": self.optimizer.param_groups[0]["lr"]}

    def _diverged(self, loss: float, norm: float) -> DataError:
        named = list(self.model.named_parameters())
        bad = [n for n, p in named if not bool(torch.isfinite(p).all())]
        bad += [n for n, p in named if p.grad is not None and not bool(torch.isfinite(p.grad).all())]
        folder = self.options.folder
        kept = f"; the last good state is {folder / checkpoint.LAST}" if folder else ""
        return DataError(
            "training diverged", subject=bad[0] if bad else "loss", expected="a finite loss",
            actual=f"loss {loss}, gradients of norm {norm} at step {self.state.step}",
            hint="lower the learning rate or raise the warm-up" + kept,
        )  # fmt: skip

    # ---- evaluation ----

    @torch.no_grad()
    def evaluate(self) -> Evaluation:
        """The held-out text, in windows without overlap."""
        self.model.eval()
        size = min(self.options.window, len(self.held_out.tokens))
        loss = kl = reasoning = 0.0
        count = marked = 0
        for start in self.held_out.windows(size)[: self.options.eval_windows]:
            tokens = torch.from_numpy(self.held_out.tokens[start : start + size]).to(self.device)[None]
            steps = torch.from_numpy(self.held_out.steps[start : start + size]).to(self.device)[None]
            with self._precision():
                logits = self.model(tokens, use_cache=False).logits
                guide = self.teacher.logits(tokens) if self.teacher is not None else None
            plain = self.config.changed(beta_kd=1.0, gamma_reasoning=1.0, temperature=1.0)
            found = total_loss(logits, guide, tokens, steps, plain).floats()
            loss, kl, count = loss + found["task"], kl + found["kd"], count + 1
            if found["reasoning"]:
                reasoning, marked = reasoning + found["reasoning"], marked + 1
        distance = kl / count if self.teacher is not None else None
        return Evaluation(loss / count, distance, reasoning / marked if marked else None)

    def _evaluate(self) -> None:
        found = self.evaluate()
        better = found.loss < self.state.best_loss
        if better:
            self.state.best_loss, self.state.best_step, self.state.stale = found.loss, self.state.step, 0
            self._keep()
        else:
            self.state.stale += 1
        self.events.write(
            "eval", self.state.step, loss=found.loss, perplexity=found.perplexity, kl=found.kl,
            reasoning=found.reasoning, best=better,
            epoch=self.state.step * self.config.gradient_accumulation / self.batches.per_epoch,
        )  # fmt: skip

    def _keep(self) -> None:
        """The state as the best: what training may change of it."""
        frozen = {n for n, p in self.model.named_parameters(remove_duplicate=False) if not p.requires_grad}
        self.best = {
            name: tensor.detach().clone()
            for name, tensor in self.model.state_dict().items()
            if name not in frozen and ".packed." not in name
        }

    # ---- the run ----

    def _identity(self) -> dict[str, Any]:
        """What a checkpoint must have been made with."""
        return {
            "config": self.config.to_toml(), "window": self.options.window, "steps": self.options.steps,
            "text": f"{len(self.batches.stream.tokens)} tokens", "processes": self.processes.count,
            "start": self.start,
        }  # fmt: skip

    def save(self) -> None:
        """Writes a checkpoint, where there is a folder for it."""
        if self.options.folder is None or self.processes.rank:
            return
        state = {
            "run": self._identity(), "model": self.model.state_dict(), "best": self.best,
            "optimizer": self.optimizer.state_dict(), "progress": vars(self.state),
            "seconds": self.budget.elapsed(),
        }  # fmt: skip
        checkpoint.save(self.options.folder, checkpoint.LAST, state)

    def resume(self) -> bool:
        """Goes on from the folder's checkpoint, if it has one."""
        if self.options.folder is None:
            return False
        state = checkpoint.load(self.options.folder, checkpoint.LAST, self._identity())
        if state is None:
            return False
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.state = Progress(**state["progress"])
        self.best = state["best"]
        self.budget.spent = state["seconds"]
        return True

    def run(self) -> Progress:
        """Trains to the end of the budget and leaves the best state found in the model.

        Raises DataError when the loss isn't finite, MemoryLimitError when memory runs out.
        """
        if self.state.step == 0:
            self._keep()
        try:
            self._run()
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise MemoryLimitError(
                "training doesn't fit into memory", subject=str(self.device), actual=str(error)[:120],
                hint=OUT_OF_MEMORY,
            ) from error  # fmt: skip
        self.model.load_state_dict(self.best, strict=False)  # what is frozen isn't among it
        self.model.eval()
        return self.state

    def _run(self) -> None:
        self.budget.start()
        saved = time.monotonic()
        if self.state.step == 0:
            self._evaluate()
            self.save()
        while self.budget.done(self.state.step) < 1.0 and not self._exhausted():
            found = self.step()
            done = self.budget.done(self.state.step)
            if self.state.step % self.options.log_every == 0:
                self.events.write("step", self.state.step, done=done, tokens=self.state.tokens, **found)
            self.report(
                done, f"loss {found['total']:.3f}, best {math.exp(min(self.state.best_loss, 700)):.2f}"
            )
            if self.state.step % self.options.eval_every == 0:
                self._evaluate()
            if time.monotonic() - saved > self.options.save_seconds:
                self.save()
                saved = time.monotonic()
        self._evaluate()
        self.save()

    def _exhausted(self) -> bool:
        return bool(self.options.patience) and self.state.stale >= self.options.patience
