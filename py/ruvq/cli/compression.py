"""Compression for the local server: texts and WebAssembly, by Brotli where the package is there, else by
gzip.

Never a model: it is random bits, a browser's progress counts bytes of the file, and a part of it may be asked
for.
"""

from __future__ import annotations

import gzip
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

try:
    import brotli
except ImportError:
    brotli = None

SUFFIXES = frozenset((".html", ".js", ".mjs", ".css", ".json", ".map", ".wasm", ".svg", ".txt", ".md", ".py"))
LEAST, MOST = 1024, 32 << 20  # bytes of a file worth it
CACHE_BYTES = 64 << 20


@dataclass(frozen=True)
class Packed:
    """A file's content, compressed. `encoding`: for Content-Encoding."""

    encoding: str
    data: bytes


_cache: OrderedDict[tuple[str, int, int, str], Packed] = OrderedDict()
_lock = threading.Lock()


def accepted(header: str) -> list[str]:
    """The encodings that an Accept-Encoding header allows, of those there are; the best first."""
    allowed = {}
    for part in header.lower().split(","):
        name, _, options = part.strip().partition(";")
        quality = options.strip().removeprefix("q=")
        try:
            allowed[name.strip()] = float(quality) if options else 1.0
        except ValueError:
            allowed[name.strip()] = 0.0
    anything = allowed.get("*", 0.0)
    return [name for name in PACKERS if allowed.get(name, anything) > 0]


def compressed(path: Path, status: os.stat_result, accept: str) -> Packed | None:
    """The file's content for a browser that accepts this; None: send it as it is."""
    if path.suffix.lower() not in SUFFIXES or not LEAST <= status.st_size <= MOST:
        return None
    names = accepted(accept)
    if not names:
        return None
    key = (str(path), status.st_mtime_ns, status.st_size, names[0])
    with _lock:
        if key in _cache:
            _cache.move_to_end(key)
            return _cache[key]
    try:
        packed = Packed(names[0], PACKERS[names[0]](path.read_bytes()))
    except OSError:
        return None
    with _lock:
        _cache[key] = packed
        while sum(len(p.data) for p in _cache.values()) > CACHE_BYTES:
            _cache.popitem(last=False)
    return packed


def _brotli(data: bytes) -> bytes:
    return brotli.compress(data, quality=5)


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, 6, mtime=0)


PACKERS: dict[str, Callable[[bytes], bytes]] = {"br": _brotli, "gzip": _gzip} if brotli else {"gzip": _gzip}
