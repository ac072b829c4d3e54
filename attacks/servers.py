"""Class 20: servers that break off, give the wrong part or something else than a model, a browser that is
full, two tabs at once. `serving` runs them all; the cases say which one is asked, and how."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from attacks.build_gguf import llama
from attacks.case import Case
from ruvq.cli.server import HEADERS, TYPES, Handler, Server


class FaultyHandler(Handler):
    """Files of a folder, and /fault/NAME?file=PATH, which sends the file in a wrong way."""

    without: frozenset[str] = frozenset()  # headers left out
    extra: dict[str, str] = {}  # noqa: RUF012  headers added

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            if name not in self.without:
                self.send_header(name, value)
        for name, value in self.extra.items():
            self.send_header(name, value)
        super(Handler, self).end_headers()

    def _send(self, *, body: bool) -> None:
        parts = urlsplit(self.path)
        fault = parts.path.removeprefix("/fault/")
        if fault == parts.path:
            super()._send(body=body)
            return
        file = parse_qs(parts.query).get("file", [""])[0]
        data = (Path(self.directory) / file).read_bytes() if file else b""
        FAULTS[fault](self, data)

    def visit(self) -> int:
        """The number of this request among those for the same address."""
        visits = self.server.visits  # type: ignore[attr-defined]
        visits[self.path] = visits.get(self.path, 0) + 1
        return visits[self.path]

    def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        """Sends exactly these headers; the connection ends with the body."""
        self.close_connection = True
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            return  # the client refused it, as it should


def _html(handler: FaultyHandler, data: bytes) -> None:
    page = b"<!DOCTYPE html><title>Sign in</title>"
    handler.answer(200, {"Content-Type": TYPES[".html"], "Content-Length": str(len(page))}, page)


def _cut(handler: FaultyHandler, data: bytes) -> None:
    half = data[: len(data) // 2]
    handler.answer(200, {"Content-Length": str(len(data))}, half)


def _huge(handler: FaultyHandler, data: bytes) -> None:
    """Announces 6 GB and sends a little of it."""
    handler.answer(200, {"Content-Length": str(6 * 10**9)}, data)


def _unannounced(handler: FaultyHandler, data: bytes) -> None:
    handler.answer(200, {"Connection": "close"}, data)


def _gzip(handler: FaultyHandler, data: bytes) -> None:
    import gzip

    packed = gzip.compress(data, 1)
    handler.answer(200, {"Content-Encoding": "gzip", "Content-Length": str(len(packed))}, packed)


def _slow(handler: FaultyHandler, data: bytes) -> None:
    """A first piece, and then nothing until the client goes."""
    handler.answer(200, {"Content-Length": str(len(data))}, data[: len(data) // 4])
    handler.server.stopping.wait(20)  # type: ignore[attr-defined]


def _versioned(handler: FaultyHandler, data: bytes, tag: str) -> tuple[dict[str, str], int, bytes]:
    """Headers, status and body of an answer that honours ranges of the version `tag`."""
    headers = {"ETag": tag, "Last-Modified": "Mon, 02 Nov 2026 10:00:00 GMT"}
    wanted = handler.headers.get("Range", "")
    if wanted and handler.headers.get("If-Range", tag) == tag:
        first = int(wanted.removeprefix("bytes=").split("-")[0])
        headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
        return headers, 206, data[first:]
    return headers, 200, data


def _breaks(handler: FaultyHandler, data: bytes) -> None:
    """Honours ranges, and breaks off every answer after a third of the file."""
    headers, status, body = _versioned(handler, data, '"one"')
    headers["Content-Length"] = str(len(body))
    handler.answer(status, headers, body[: len(data) // 3])
    _hand_out(handler)


def _hand_out(handler: FaultyHandler) -> None:
    """A browser throws away what it hasn't handed out when the connection breaks."""
    handler.wfile.flush()
    time.sleep(0.5)


def _hangs(handler: FaultyHandler, data: bytes) -> None:
    """Honours ranges; the first answer stops in the middle and never ends."""
    headers, status, body = _versioned(handler, data, '"one"')
    headers["Content-Length"] = str(len(body))
    first = handler.visit() == 1
    handler.answer(status, headers, body[: len(data) // 2] if first else body)
    if first:
        handler.server.stopping.wait(60)  # type: ignore[attr-defined]


def _ignores(handler: FaultyHandler, data: bytes) -> None:
    """Breaks off once, and gives the whole file for every range."""
    half = handler.visit() == 1
    headers = {"ETag": '"one"', "Content-Length": str(len(data))}
    handler.answer(200, headers, data[: len(data) // 2] if half else data)


def _changes(handler: FaultyHandler, data: bytes) -> None:
    """Breaks off once; then the file is another one, of the same size."""
    visit = handler.visit()
    version = data if visit > 1 else data[:-64] + bytes(64)
    headers, status, body = _versioned(handler, version, f'"{min(visit, 2)}"')
    headers["Content-Length"] = str(len(body))
    handler.answer(status, headers, body[: len(data) // 2] if visit == 1 else body)


def _misplaced(handler: FaultyHandler, data: bytes) -> None:
    """Breaks off once; then gives another part of the file than was asked for, and says so."""
    headers, status, body = _versioned(handler, data, '"one"')
    if status == 206:
        headers["Content-Range"] = f"bytes 64-{len(data) - 1}/{len(data)}"
        body = data[64:]
    headers["Content-Length"] = str(len(body))
    first = handler.visit() == 1
    handler.answer(status, headers, body[: len(data) // 2] if first else body)
    _hand_out(handler)


def _resized(handler: FaultyHandler, data: bytes) -> None:
    """Breaks off once; then says that the file is longer than it was."""
    headers, status, body = _versioned(handler, data, '"one"')
    if status == 206:
        headers["Content-Range"] = headers["Content-Range"].replace(f"/{len(data)}", f"/{len(data) + 32}")
    headers["Content-Length"] = str(len(body))
    first = handler.visit() == 1
    handler.answer(status, headers, body[: len(data) // 2] if first else body)
    _hand_out(handler)


def _lies(handler: FaultyHandler, data: bytes) -> None:
    """Breaks off once; then gives other bytes as the part that was asked for."""
    headers, status, body = _versioned(handler, data, '"one"')
    headers["Content-Length"] = str(len(body))
    half = body[: len(data) // 2]
    handler.answer(status, headers, body[::-1] if status == 206 else half if handler.visit() == 1 else body)
    _hand_out(handler)


def _longer(handler: FaultyHandler, data: bytes) -> None:
    """Announces half of what it sends, which ends the answer there."""
    handler.answer(200, {"Content-Length": str(len(data) // 2)}, data)


def _once(handler: FaultyHandler, data: bytes) -> None:
    """The file for the first who asks; an error for everybody else."""
    if handler.visit() == 1:
        handler.answer(200, {"ETag": '"one"', "Content-Length": str(len(data))}, data)
    else:
        handler.answer(500, {"Content-Length": "0"}, b"")


FAULTS: dict[str, Callable[[FaultyHandler, bytes], None]] = {
    "html": _html,
    "cut": _cut,
    "huge": _huge,
    "unannounced": _unannounced,
    "gzip": _gzip,
    "slow": _slow,
    "breaks": _breaks,
    "hangs": _hangs,
    "ignores": _ignores,
    "changes": _changes,
    "once": _once,
    "misplaced": _misplaced,
    "resized": _resized,
    "lies": _lies,
    "longer": _longer,
}


@contextmanager
def serving(
    folder: Path, without: tuple[str, ...] = (), extra: dict[str, str] | None = None
) -> Iterator[str]:
    """Serves `folder` on this machine, `without` some of the usual headers and with `extra` ones; gives the
    address, without a slash at the end."""
    kind = type("Handler", (FaultyHandler,), {"without": frozenset(without), "extra": extra or {}})
    server = Server(("127.0.0.1", 0), partial(kind, directory=str(folder)))
    server.stopping = threading.Event()  # type: ignore[attr-defined]
    server.visits = {}  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.stopping.set()  # type: ignore[attr-defined]
        server.shutdown()
        server.server_close()
        thread.join()


# ---- the cases ----

MODEL = llama()
FILE = "out/attacks/model.gguf"  # MODEL, below the folder that is served: the repository
ITS_DIGEST = {"sha256": hashlib.sha256(MODEL).hexdigest()}  # so that what is accepted is the right file
BROWSERS = ("page", "Pyodide")


def downloads() -> Iterator[Case]:
    def case(name: str, fault: str, code: str | None, says: str = "", **more: Any) -> Case:
        address = f"fault/{fault}?file={FILE}" if fault else FILE
        options = tuple({**ITS_DIGEST, **more.pop("options", {})}.items())
        given = {"address": address, "options": options, "hosts": BROWSERS, **more}
        return Case(f"download-{name}", 20, b"", code, says, "download", **given)

    yield case("a-page", "html", "RQ_E_MAGIC", "got HTML instead of a model", error="DownloadError")
    yield case("cut", "cut", "", "the download was cut", error="DownloadError")
    yield case("cut-by-its-own-length", "longer", "RQ_E_TRUNCATED", options={"sha256": None})
    yield case("larger-than-memory", "huge", "", "5722", error="MemoryLimitError")
    yield case("of-another-file", "", "", "0" * 64, error="IntegrityError", options={"sha256": "0" * 64})
    yield case("of-another-size", "", "", "another size", error="IntegrityError", options={"bytes": 10})
    yield case("other-bytes-as-the-rest", "lies", "", "SHA-256", error="IntegrityError")
    # what a client has to get along with: the right model comes of it
    yield case("the-whole-file-for-a-range", "ignores", None)
    yield case("another-range-than-asked-for", "misplaced", None)
    yield case("a-range-of-a-longer-file", "resized", None)
    yield case("another-file-by-now", "changes", None)
    yield case("broken-off-again-and-again", "breaks", None)
    yield case("two-tabs", "once", None, tabs=2)
    yield case("no-room-to-keep-it", "", None, "is not kept", quota=len(MODEL) // 2)


GENERATORS = (downloads,)
