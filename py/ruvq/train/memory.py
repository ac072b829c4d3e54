"""The most memory that this process held, as the system counts it. Imports no torch."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


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
