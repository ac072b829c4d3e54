"""One process or several: what `accelerate launch` (or torchrun) started, by torch's own DDP."""

from __future__ import annotations

import contextlib
import os
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

WAIT = timedelta(hours=12)  # for the first process, which alone makes the start and writes the file


class Processes:
    """`count` and `rank` of this run's processes; gloo between CPUs, nccl between GPUs."""

    def __init__(self) -> None:
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        if self.count > 1 and not dist.is_initialized():
            if torch.cuda.is_available():
                torch.cuda.set_device(self.local_rank)  # where nccl sends what is shared
            dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=WAIT)

    @property
    def local_rank(self) -> int:
        """The process of this machine."""
        return int(os.environ.get("LOCAL_RANK", "0"))

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model with gradients that are averaged over all processes."""
        if self.count == 1:
            return model
        return nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)

    def share(self, value: Any) -> Any:
        """The first process's value, in all of them."""
        if self.count == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def any(self, flag: bool) -> bool:
        """Whether it is so in one of the processes at least."""
        if self.count == 1:
            return flag
        flags = [False] * self.count
        dist.all_gather_object(flags, flag)
        return True in flags

    def accumulate(self, wrapped: nn.Module, last: bool) -> Any:
        """Gradients are exchanged only in the last of several backward passes."""
        if self.count == 1 or last:
            return contextlib.nullcontext()
        return wrapped.no_sync()  # type: ignore[operator]
