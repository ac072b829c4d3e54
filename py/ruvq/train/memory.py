"""The most memory that this process held, as the system counts it. Imports no torch."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from pathlib import Path

M_MMAP_THRESHOLD = -3  # of glibc's mallopt
_LARGE = 1 << 20
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def give_back_freed() -> None:
    """Lets the allocator return what large tensors held as soon as they are freed.

    glibc keeps more and more of it otherwise, so that a model that is packed matrix by matrix would hold its
    floats as well; other systems need no telling.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, _LARGE)


def reset_peak() -> None:
    """Counts from here on, where the system lets it (Linux); elsewhere the peak is the process's."""
    with contextlib.suppress(OSError):
        _RESET.write_text("5")


def peak_bytes() -> int:
    """Most resident bytes since the process began, or since `reset_peak`; 0 where nothing tells."""
    with contextlib.suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
