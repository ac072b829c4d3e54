"""Threads for one engine: how many, and a pool of them in the core. Any number computes the same bits."""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import Any

from ..core import CONSTANTS, Allocation
from ..errors import UsageError

MOST_BY_DEFAULT = 8  # memory bandwidth is used up by then on most machines
_SYSTEM = Path("/sys/devices/system/cpu")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cores() -> int:
    """Physical cores that this process may run on: hardware threads of one core share what products need."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    cores = {_siblings(cpu) for cpu in os.sched_getaffinity(0)}
    return max(1, min(len(cores), _quota()))


def _siblings(cpu: int) -> str:
    """What names the core of a hardware thread."""
    try:
        return (_SYSTEM / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text()
    except OSError:
        return str(cpu)


def _quota() -> int:
    """Cores' worth of time that a container may use."""
    try:
        time, period = _QUOTA.read_text().split()
        return max(1, int(time) // int(period))
    except (OSError, ValueError):  # no such limit, or "max"
        return CONSTANTS["RQ_MAX_THREADS"]


def choose(threads: int | None, host: str) -> int:
    """The number of threads for an engine: None is the usable cores, at most 8. Always 1 in WebAssembly.

    Raises UsageError outside 1 to RQ_MAX_THREADS.
    """
    most = CONSTANTS["RQ_MAX_THREADS"]
    if threads is not None and not 1 <= threads <= most:
        raise UsageError(
            "an option is out of range", subject="threads", expected=f"1 to {most}", actual=str(threads)
        )
    if host != "native":
        return 1
    return min(usable_cores(), MOST_BY_DEFAULT) if threads is None else threads


class Pool:
    """Running threads beside the caller's own. `close()` ends them; so does losing the object."""

    def __init__(self, core: Any, threads: int, *, split_all: bool = False) -> None:
        """`split_all`: share out even what is too small to gain by it, for tests."""
        memory = core.alloc(core.raw("rq_pool_bytes"))
        flags = CONSTANTS["RQ_POOL_SMALL_JOBS"] if split_all else 0
        core.call("rq_pool_init", memory.address, memory.end, threads, flags)
        self.threads = 1 + core.call("rq_threads_start", memory.address)
        self.address: int = memory.address
        self._stop = weakref.finalize(self, _stop, core, memory, os.getpid())

    def close(self) -> None:
        """May be called twice. No engine may use the pool any more."""
        self._stop()


def _stop(core: Any, memory: Allocation, process: int) -> None:
    if os.getpid() == process:  # a forked process has none of the threads
        core.raw("rq_threads_stop", memory.address)
    memory.free()
