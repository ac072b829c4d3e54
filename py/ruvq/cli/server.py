"""A small static HTTP server for the page: cross-origin isolation, right types, ranges. For local use.

Browsers give a page threads (SharedArrayBuffer) only with COOP and COEP headers, refuse a module with
the wrong MIME type, and fetch large files piecewise by Range requests.
"""

from __future__ import annotations

import html
import os
import re
import socket
import sys
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from .compression import Packed, compressed

HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Access-Control-Allow-Origin": "*",
    "Vary": "Accept-Encoding",
    "Access-Control-Expose-Headers": "Content-Length, Content-Range, Accept-Ranges, ETag",
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
}
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json; charset=utf-8",
    ".map": "application/json; charset=utf-8",
    ".wasm": "application/wasm",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".txt": "text/plain; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
    ".py": "text/plain; charset=utf-8",
    ".whl": "application/zip",
    ".zip": "application/zip",
    ".tar": "application/x-tar",
    ".gguf": "application/octet-stream",
}
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})$")


class Handler(SimpleHTTPRequestHandler):
    """GET and HEAD of files below one folder; links that lead out of it are not followed."""

    protocol_version = "HTTP/1.1"
    server_version = "ruvq"
    sys_version = ""
    compress = True  # where the browser takes it and the file is worth it

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: a browser's console shows requests better."""

    def do_OPTIONS(self) -> None:
        """Answers a cross-origin preflight."""
        self.send_response(HTTPStatus.NO_CONTENT)
        self.send_header("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS")
        self.send_header("Access-Control-Allow-Headers", "Range, If-Range, If-None-Match")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        """Sends a file or the part asked for."""
        self._send(body=True)

    def do_HEAD(self) -> None:
        """Sends the headers alone."""
        self._send(body=False)

    def _send(self, *, body: bool) -> None:
        path = self._file()
        if path is None:
            return
        try:
            file = open(path, "rb")  # noqa: SIM115 - closed by the `with` below
        except OSError:
            self._refuse(HTTPStatus.NOT_FOUND, "no such file")
            return
        with file:
            status = os.fstat(file.fileno())
            packed = self._packed(path, status)
            suffix = f"-{packed.encoding}" if packed else ""
            tag = f'"{status.st_mtime_ns:x}-{status.st_size:x}{suffix}"'
            if self.headers.get("If-None-Match") == tag:
                self.send_response(HTTPStatus.NOT_MODIFIED)
                self.send_header("ETag", tag)
                self.end_headers()
                return
            if packed:
                self._send_packed(path, packed, tag, body=body)
                return
            part = self._range(status.st_size, tag)
            if part is None:
                return
            first, end = part
            whole = (first, end) == (0, status.st_size) and "Range" not in self.headers
            self.send_response(HTTPStatus.OK if whole else HTTPStatus.PARTIAL_CONTENT)
            if not whole:
                self.send_header("Content-Range", f"bytes {first}-{end - 1}/{status.st_size}")
            self.send_header("Content-Type", TYPES.get(path.suffix.lower(), "application/octet-stream"))
            self.send_header("Content-Length", str(end - first))
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("ETag", tag)
            self.send_header("Last-Modified", formatdate(status.st_mtime, usegmt=True))
            self.end_headers()
            if body:
                self._copy(file, first, end)

    def _packed(self, path: Path, status: os.stat_result) -> Packed | None:
        """The file compressed, for a request that wants it whole."""
        if not self.compress or "Range" in self.headers:
            return None
        return compressed(path, status, self.headers.get("Accept-Encoding", ""))

    def _send_packed(self, path: Path, packed: Packed, tag: str, *, body: bool) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", TYPES[path.suffix.lower()])
        self.send_header("Content-Encoding", packed.encoding)
        self.send_header("Content-Length", str(len(packed.data)))
        self.send_header("ETag", tag)
        self.end_headers()
        if body:
            try:
                self.wfile.write(packed.data)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

    def _copy(self, file: BinaryIO, first: int, end: int) -> None:
        file.seek(first)
        left = end - first
        try:
            while left:
                piece = file.read(min(left, 1 << 18))
                if not piece:
                    self.close_connection = True  # the file shrank: the client sees a short body
                    return
                self.wfile.write(piece)
                left -= len(piece)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the browser stopped the download

    def _range(self, size: int, tag: str) -> tuple[int, int] | None:
        """(first, end) of the bytes to send; None after a refusal."""
        wanted = self.headers.get("Range")
        if_range = self.headers.get("If-Range")
        if wanted is None or (if_range is not None and if_range != tag):
            if wanted is not None:
                del self.headers["Range"]  # the file changed: all of it
            return 0, size
        match = _RANGE.match(wanted.strip())
        first_text, last_text = match.groups() if match else ("", "")
        if first_text:
            first = int(first_text)
            end = min(size, int(last_text) + 1) if last_text else size
        elif last_text:
            first, end = max(0, size - int(last_text)), size
        else:
            first, end = size, size
        if first >= end:
            self._refuse(
                HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
                "no such bytes",
                {"Content-Range": f"bytes */{size}"},
            )
            return None
        return first, end

    def _file(self) -> Path | None:
        """The file that the URL names; None after an answer of another kind."""
        parts = urlsplit(self.path)
        root = Path(self.directory).resolve()
        try:
            path = (root / unquote(parts.path, errors="strict").lstrip("/")).resolve()
            inside, is_dir = path.is_relative_to(root), path.is_dir()
        except (ValueError, OSError, RuntimeError):
            inside, is_dir, path = False, False, root
        if not inside:
            self._refuse(HTTPStatus.NOT_FOUND, "no such file")
            return None
        if not is_dir:
            return path
        if not parts.path.endswith("/"):
            self.send_response(HTTPStatus.MOVED_PERMANENTLY)
            query = f"?{parts.query}" if parts.query else ""
            self.send_header("Location", "/" + parts.path.lstrip("/") + "/" + query)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        index = path / "index.html"
        if index.is_file():
            return index
        self._list(path)
        return None

    def _list(self, folder: Path) -> None:
        names = sorted(
            p.name + ("/" if p.is_dir() else "") for p in folder.iterdir() if not p.name.startswith(".")
        )
        items = "".join(
            f'<li><a href="./{html.escape(n, quote=True)}">{html.escape(n)}</a></li>' for n in names
        )
        page = f'<!doctype html><meta charset="utf-8"><title>Files</title><ul>{items}</ul>'.encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", TYPES[".html"])
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page)

    def _refuse(self, status: HTTPStatus, text: str, headers: dict[str, str] | None = None) -> None:
        body = f"{status.value} {text}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", TYPES[".txt"])
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class Server(ThreadingHTTPServer):
    """One thread a request; quick to restart."""

    daemon_threads = True
    allow_reuse_address = os.name == "posix"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that closes its connection is no error."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Server6(Server):
    address_family = socket.AF_INET6


def make_server(
    folder: Path, host: str = "127.0.0.1", port: int = 8000, tries: int = 20, compress: bool = True
) -> ThreadingHTTPServer:
    """A server for `folder`, bound but not yet serving; the next ports are tried when one is taken.

    Port 0 takes any free one. Raises OSError when none of `tries` ports can be had.
    """
    kind = _Server6 if ":" in host else Server
    chosen = type("Handler", (Handler,), {"compress": compress})
    handler = partial(chosen, directory=str(folder))
    for attempt in range(tries):
        try:
            return kind((host, port + attempt if port else 0), handler)
        except OSError:
            if attempt == tries - 1 or port + attempt >= 65535:
                raise
    raise OSError("no port tried")
