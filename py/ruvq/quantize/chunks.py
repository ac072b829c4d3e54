"""Rows cut into chunks and worked on by several threads; chunks depend on the shape alone, so that the
result doesn't depend on the number of threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from .. import core
from ..errors import UsageError

CHUNK_WEIGHTS = 1 << 18  # a fraction of a second of the slowest encoder

Result = TypeVar("Result")


def thread_count(threads: int | None) -> int:
    """How many threads to use: what was asked for, else one a processor; one in a browser."""
    if threads is not None and threads < 1:
        raise UsageError(
            "threads are at least one", subject="threads", expected="1 or more", actual=str(threads)
        )
    if core.get().host != "native":
        return 1
    if threads is not None:
        return threads
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def chunks(rows: int, width: int) -> Iterator[tuple[int, int]]:
    """[first, last) of each chunk."""
    step = max(1, CHUNK_WEIGHTS // width)
    return ((first, min(first + step, rows)) for first in range(0, rows, step))


def over_chunks(
    rows: int, width: int, threads: int | None, work: Callable[[int, int], Result]
) -> list[Result]:
    """`work(first, last)` for every chunk, in order; the first chunk's exception wins."""
    ranges = list(chunks(rows, width))
    count = min(thread_count(threads), len(ranges))
    if count <= 1:
        return [work(first, last) for first, last in ranges]
    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(work, first, last) for first, last in ranges]
        try:
            return [future.result() for future in futures]
        except BaseException:
            for future in futures:
                future.cancel()
            raise
