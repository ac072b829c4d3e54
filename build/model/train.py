"""Train the bundled model. Goes on from its checkpoint after a kill; shows progress with an estimate.

The length is given in minutes (the learning rate follows the share of the time that has passed, so the same
command suits a fast and a slow machine) or in steps (repeatable). In the last part of the training, the
weights get random noise in every forward pass: it stands for the error of 2 to 3 bits, whichever quantizer
makes it later, and the model learns to write well in spite of it.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from corpus import Stream, batch
from llama import Llama, LlamaConfig
from optimizer import Muon


@dataclass(frozen=True)
class TrainConfig:
    minutes: float = 50.0
    steps: int = 0  # 0: as many as the minutes allow
    seed: int = 7
    tokens_per_step: int = 6144  # on a GPU some ten times as many
    long_every: int = 4  # every fourth step has windows of the whole context, the others of 256
    muon_lr: float = 0.02
    adam_lr: float = 0.003
    warmup: float = 0.01  # shares of the training
    decay_from: float = 0.35
    noise_from: float = 0.6
    noise: float = 0.25  # of a row's root mean square, at most; drawn anew in every step
    # share of the windows that are real stories, from that part of the training on; many in the middle, few
    # towards the end, since the real stories are few and would be learnt by heart
    real_share: tuple[tuple[float, float], ...] = ((0.0, 0.12), (0.33, 0.4), (0.67, 0.1))
    ema: float = 0.98
    look_every: int = 5  # steps between looks at the loss, for which the device has to be waited for
    save_every_seconds: float = 60.0

    @classmethod
    def for_device(cls, device: str, minutes: float, steps: int) -> TrainConfig:
        """A GPU takes larger batches of one length, and reads so much text that real stories must be rare."""
        if device == "cpu":
            return cls(minutes=minutes, steps=steps)
        return cls(
            minutes=minutes,
            steps=steps,
            tokens_per_step=65536,
            long_every=1,
            real_share=((0.0, 0.005),),
            ema=0.996,
            look_every=20,
        )


def learning_rate_factor(config: TrainConfig, done: float) -> float:
    if done < config.warmup:
        return max(done / config.warmup, 0.05)
    if done < config.decay_from:
        return 1.0
    return max(0.0, (1.0 - done) / (1.0 - config.decay_from))


@contextmanager
def noisy_weights(model: Llama, strength: float, generator: torch.Generator) -> Iterator[None]:
    """Within, each matrix has Gaussian noise of `strength` times the root mean square of the row."""
    matrices = [p for p in model.parameters() if p.dim() == 2] if strength > 0 else []
    clean = [p.detach().clone() for p in matrices]
    with torch.no_grad():
        for parameter in matrices:
            size = parameter.square().mean(1, keepdim=True).sqrt() * strength
            noise = torch.randn(parameter.shape, generator=generator, device=parameter.device)
            parameter.add_(noise * size)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(matrices, clean, strict=True):
                parameter.copy_(value)


class Trainer:
    def __init__(
        self, model_config: LlamaConfig, config: TrainConfig, real: Stream, sampled: Stream, device: str
    ) -> None:
        torch.manual_seed(config.seed)
        self.config, self.device = config, device
        self.real, self.sampled = real, sampled
        self.model = Llama(model_config).to(device)
        matrices = [p for n, p in self.model.named_parameters() if p.dim() == 2 and "embed" not in n]
        others = [p for n, p in self.model.named_parameters() if p.dim() != 2 or "embed" in n]
        self.muon = Muon(matrices, config.muon_lr)
        self.adam = torch.optim.AdamW(others, config.adam_lr, betas=(0.9, 0.98), weight_decay=0.0)
        self.average = {n: p.detach().clone() for n, p in self.model.named_parameters()}
        self.compiled_loss = torch.compile(self.model.loss)  # a build for each of two lengths
        self.step, self.tokens, self.seconds = 0, 0, 0.0

    def done(self) -> float:
        """The share of the training that has passed, 0 to 1."""
        if self.config.steps:
            return min(1.0, self.step / self.config.steps)
        return min(1.0, self.seconds / (60 * self.config.minutes))

    def train_step(self) -> torch.Tensor:
        c, done = self.config, self.done()
        factor = learning_rate_factor(c, done)
        for optimizer, lr in ((self.muon, c.muon_lr), (self.adam, c.adam_lr)):
            for group in optimizer.param_groups:
                group["lr"] = lr * factor
        length = 256 if self.step % c.long_every else self.model.config.max_position_embeddings
        share = [value for start, value in c.real_share if done >= start][-1]
        windows = batch(
            self.real, self.sampled, share, c.tokens_per_step // length, length, c.seed, self.step
        )
        generator = torch.Generator(self.device).manual_seed(c.seed * 1_000_003 + self.step)
        ramp = min(1.0, max(0.0, done - c.noise_from) / 0.1)
        strength = c.noise * ramp * float(np.random.default_rng((c.seed, self.step, 1)).random())
        with noisy_weights(self.model, strength, generator):
            with torch.autocast(self.device, torch.bfloat16):
                loss = self.compiled_loss(windows.to(self.device))
            loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.muon.step()
        self.adam.step()
        self.model.zero_grad(set_to_none=True)
        with torch.no_grad():
            weights = [p.detach() for p in self.model.parameters()]
            torch._foreach_lerp_(list(self.average.values()), weights, 1 - c.ema)
        self.step += 1
        self.tokens += windows.shape[0] * length
        return loss.detach()

    def save(self, path: Path) -> None:
        part = path.with_suffix(".part")
        state = {
            "model": self.model.state_dict(),
            "average": self.average,
            "muon": self.muon.state_dict(),
            "adam": self.adam.state_dict(),
            "counters": (self.step, self.tokens, self.seconds),
            "model_config": self.model.config.to_dict(),
        }
        torch.save(state, part)
        os.replace(part, path)

    def load(self, path: Path) -> None:
        state = torch.load(path, map_location=self.device, weights_only=True)
        if state["model_config"] != self.model.config.to_dict():
            raise ValueError(f"{path}: made for another model shape; remove it or choose another --work")
        self.model.load_state_dict(state["model"])
        self.average = state["average"]
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])
        self.step, self.tokens, self.seconds = state["counters"]

    def run(self, checkpoint: Path) -> None:
        """Train to the end, from `checkpoint` if it is there."""
        if checkpoint.exists():
            self.load(checkpoint)
            print(f"train: going on from step {self.step}", flush=True)
        saved, smooth, last = time.monotonic(), math.nan, time.monotonic()
        while self.done() < 1.0:
            loss = self.train_step()
            if self.step % self.config.look_every == 0:
                smooth = loss.item() if math.isnan(smooth) else 0.7 * smooth + 0.3 * loss.item()
            now = time.monotonic()
            self.seconds += now - last
            last = now
            if self.step % (10 * self.config.look_every) == 0:
                share = self.done()
                left = self.seconds * (1 / max(share, 1e-9) - 1) / 60
                print(
                    f"train: step {self.step}, {self.tokens / 1e6:.2f}M tokens, loss {smooth:.4f}, "
                    f"{self.tokens / self.seconds:.0f} tokens/s, {100 * share:.1f}%, {left:.0f} minutes left",
                    flush=True,
                )
            if now - saved > self.config.save_every_seconds:
                self.save(checkpoint)
                saved = now
        self.save(checkpoint)


def averaged_model(checkpoint: Path) -> tuple[Llama, dict[str, float]]:
    """The averaged weights of a checkpoint on the CPU, and the counters of the training."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    model = Llama(LlamaConfig(**state["model_config"]))
    model.load_state_dict(state["average"])
    step, tokens, seconds = state["counters"]
    return model.eval(), {"steps": step, "tokens": tokens, "minutes": seconds / 60}
