"""Rewrites a wheel with smaller deflate streams: zopfli's, which every unzip reads.

What the members hold does not change, so that RECORD's hashes stay right. The same members give the same
wheel: order and permissions are kept, dates are fixed. zopfli takes about a hundred times as long as zlib,
so streams are kept in out/deflated, by the SHA-256 of what they hold.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import zopfli.zlib

CACHE = Path(__file__).resolve().parent.parent / "out" / "deflated"
ITERATIONS = 15  # zopfli's default; part of a stream's name in the cache

# of the ZIP format (APPNOTE.TXT 4.3), without what follows a signature of each record
LOCAL = struct.Struct("<4s5H3I2H")
CENTRAL = struct.Struct("<4s6H3I5H2I")
END = struct.Struct("<4s4H2IH")
VERSION = 20  # needed to extract: 2.0, which brought deflate
MADE_BY_UNIX = 3 << 8 | VERSION  # else permissions would not count
UTF8 = 1 << 11  # names are in UTF-8
DATE, TIME = 1 << 5 | 1, 0  # the format's first day, 1980-01-01


def repack(wheel: Path, cache: Path = CACHE) -> None:
    """Replaces `wheel` by one with the same members, deflated by zopfli."""
    with zipfile.ZipFile(wheel) as archive:
        members = [(info, archive.read(info)) for info in archive.infolist()]
    streams = deflated({data for _, data in members}, cache)
    part = wheel.with_name(wheel.name + ".part")
    part.write_bytes(archive_of([(info, data, streams[data]) for info, data in members]))
    with zipfile.ZipFile(part) as archive:  # read back before it replaces anything
        if [(i.filename, archive.read(i)) for i in archive.infolist()] != [
            (i.filename, data) for i, data in members
        ]:
            raise RuntimeError(f"{part} does not hold what {wheel.name} does: a defect of build/deflate.py")
    part.replace(wheel)


def deflated(contents: Iterable[bytes], cache: Path) -> dict[bytes, bytes]:
    """content → raw deflate stream, from the cache where it is there."""
    cache.mkdir(parents=True, exist_ok=True)
    streams: dict[bytes, bytes] = {}
    missing = []
    for data in sorted(contents, key=len, reverse=True):  # the longest first, to share the work evenly
        stream = kept(data, cache)
        if stream is None:
            missing.append(data)
        else:
            streams[data] = stream
    if missing:
        with ProcessPoolExecutor() as pool:  # not threads: zopfli holds Python's lock
            for data, stream in zip(missing, pool.map(deflate, missing), strict=True):
                streams[data] = stream
                keep(data, stream, cache)
    return streams


def deflate(data: bytes) -> bytes:
    """The raw deflate stream of `data`."""
    return zopfli.zlib.compress(data, numiterations=ITERATIONS)[2:-4]  # without zlib's header and checksum


def place(data: bytes, cache: Path) -> Path:
    """Where the cache keeps the stream of `data`."""
    return cache / f"{hashlib.sha256(data).hexdigest()}-{ITERATIONS}"


def kept(data: bytes, cache: Path) -> bytes | None:
    """The stream of `data` in the cache; None where there is none, or one that is damaged."""
    try:
        stream = place(data, cache).read_bytes()
        return stream if zlib.decompress(stream, wbits=-zlib.MAX_WBITS) == data else None
    except (FileNotFoundError, zlib.error):
        return None


def keep(data: bytes, stream: bytes, cache: Path) -> None:
    """Writes a stream into the cache, under a temporary name first: builds may run side by side."""
    path = place(data, cache)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(stream)
    part.replace(path)


def archive_of(members: list[tuple[zipfile.ZipInfo, bytes, bytes]]) -> bytes:
    """A ZIP file of (name and permissions, content, its deflate stream); stored where that is no larger."""
    out, directory = bytearray(), bytearray()
    for info, data, stream in members:
        name = info.filename.encode()
        flags = 0 if name.isascii() else UTF8
        method, body = zipfile.ZIP_DEFLATED, stream
        if len(stream) >= len(data):
            method, body = zipfile.ZIP_STORED, data
        common = (VERSION, flags, method, TIME, DATE, zlib.crc32(data), len(body), len(data), len(name))
        # no extra field, no comment, on disk 0, no internal attributes
        directory += CENTRAL.pack(b"PK\1\2", MADE_BY_UNIX, *common, 0, 0, 0, 0, info.external_attr, len(out))
        directory += name
        out += LOCAL.pack(b"PK\3\4", *common, 0) + name + body
    count = len(members)
    end = END.pack(b"PK\5\6", 0, 0, count, count, len(directory), len(out), 0)
    return bytes(out + directory + end)
