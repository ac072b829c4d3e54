"""How far a run is, by steps or by time, and the learning rate that goes with it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass


def learning_rate_factor(done: float, warmup: float) -> float:
    """Linear warm-up over the share `warmup` of the run, then half a cosine to 0; `done` from 0 to 1."""
    if done < warmup:
        return max(done / warmup, 0.02)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (done - warmup) / max(1 - warmup, 1e-9))))


@dataclass
class Budget:
    """Steps at most, and seconds at most (None: no limit): whichever is nearer to its end says how far the
    run is. Runs that are limited by steps alone are repeatable."""

    steps: int
    seconds: float | None = None
    spent: float = 0.0  # in earlier parts of a run that was resumed
    _started: float | None = None

    def start(self) -> None:
        """From now on time counts."""
        self._started = time.monotonic()

    def elapsed(self) -> float:
        """Seconds of all parts of the run."""
        return self.spent + (time.monotonic() - self._started if self._started is not None else 0.0)

    def done(self, step: int) -> float:
        """0 to 1."""
        by_steps = step / self.steps
        return min(1.0, by_steps if self.seconds is None else max(by_steps, self.elapsed() / self.seconds))
