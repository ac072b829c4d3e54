"""`ruvq verify`: structure, values and digests of a GGUF file."""

from __future__ import annotations

import argparse
from typing import Any

from .console import Progress, note
from .files import existing_gguf
from .main import FAILED

EXAMPLES = """  ruvq verify model.gguf
  ruvq verify model.gguf --json && echo intact
  ruvq verify model.gguf --sha256 $(cut -d' ' -f1 model.gguf.sha256)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    parser.add_argument("file", help="a GGUF file on this machine")
    parser.add_argument("--sha256", metavar="DIGEST", help="the whole file's, from somebody you trust")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Runs the command; exit code 1 when something is damaged."""
    from ..gguf import GGUFFile

    path = existing_gguf(args.file)
    with GGUFFile.open(path) as file, Progress(args.quiet, "B", "verify", scale=True) as bar:
        if args.sha256:
            file.check_sha256(args.sha256)

        def show(now: Any) -> None:
            bar.to(now.bytes_done, now.bytes_total, now.tensor)

        report = file.verify(show)
    for problem in report.problems:
        note(args, f"ruvq: {problem}")
    if not args.json:
        digests = f"{report.tensor_digests} tensor digests" + (
            " and the header's" if report.header_digest else ""
        )
        state = "intact" if report.ok else f"{len(report.problems)} problems"
        print(f"{args.file}: {state}; {report.tensors} tensors, {report.bytes:,} bytes, {digests} compared")
    return {"file": args.file, **report.as_dict(), "exit_code": 0 if report.ok else FAILED}
