"""`ruvq serve`: a static server for the page, on this machine."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ..errors import StorageError, UsageError
from .console import note, whole

EXAMPLES = """  ruvq serve
  ruvq serve --dir out/site
  ruvq serve --dir . --port 8080 --host 0.0.0.0"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    parser.add_argument(
        "--dir", metavar="FOLDER",
        help="folder to serve (default: the site that `make site` or `make demo` built, else this folder)",
    )  # fmt: skip
    parser.add_argument(
        "--no-compression", action="store_true", help="send texts and WebAssembly as they are"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument(
        "--port",
        type=whole(0, 65535),
        default=8000,
        help="port; the next free one is taken when it is in use",
    )
    parser.add_argument("--strict-port", action="store_true", help="fail instead when the port is in use")


def built_site() -> Path | None:
    """The site of the folder that this is run in, or of the checkout that ruvq runs from."""
    for root in (Path(), Path(__file__).resolve().parents[3]):
        if (root / "out" / "site" / "index.html").is_file():
            return root / "out" / "site"
    return None


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Serves until interrupted; prints the address first."""
    from .server import make_server

    folder = Path(args.dir) if args.dir is not None else built_site() or Path()
    if not folder.is_dir():
        raise StorageError(
            "there is no such folder", subject=str(folder), expected="a folder to serve", actual="none"
        )
    try:
        server = make_server(
            folder,
            args.host,
            args.port,
            tries=1 if args.strict_port else 20,
            compress=not args.no_compression,
        )
    except OSError as error:
        raise UsageError(
            "can't listen there",
            subject=f"{args.host}:{args.port}",
            actual=error.strerror or str(error),
            hint="choose another --port or --host",
        ) from error
    host = f"[{args.host}]" if ":" in args.host else args.host
    port = server.server_address[1]
    shown = "localhost" if host in ("127.0.0.1", "0.0.0.0", "[::]", "[::1]") else host
    url = f"http://{shown}:{port}/"
    if not args.json:
        print(url, flush=True)
    note(args, f"serving {folder.resolve()} at {url} (Ctrl-C stops)")
    if args.json:
        from .main import print_json

        print_json({"url": url, "port": port, "dir": str(folder)})
        sys.stdout.flush()
    try:
        server.serve_forever(poll_interval=0.2)
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
    return {"url": url, "port": port, "dir": str(folder)}
