"""Finds the command, runs it, and turns every failure into one clear message and an exit code.

A command's module has `EXAMPLES`, `add_arguments(parser)` and `run(args) -> dict`; the dict is what `--json`
prints as the last line of standard output. A dict with a key "exit_code" sets that code. A module with
`HAS_SETTINGS` takes flags from ruvq.toml too (settings.py).
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import io
import json
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any, NoReturn

from .. import errors
from ..json_text import finite
from ..version import __version__

COMMANDS = {
    "quantize": "convert a float model to a GGUF file in a low-bit format",
    "calibrate": "run the float model on text and write what its inputs look like, for quantize",
    "qat": "train a model with its quantization in the loop and write the GGUF file",
    "adapter": "convert LoRA adapters between PEFT's format and GGUF, and merge several",
    "export-onnx": "write a model as an ONNX decoder, in floats or 4 bits",
    "inspect": "list what a GGUF file holds: metadata, tensors, bits per weight",
    "verify": "check a GGUF file's structure, data and SHA-256 digests",
    "run": "generate text",
    "chat": "talk with a model that has a chat template",
    "eval": "measure perplexity on a text, also against the float model",
    "report": "put a model's errors and figures on one page, with plots",
    "gate": "compute the project's quality gates, g1 to g3, and say go or no-go",
    "serve": "serve the web page with the headers that threads need",
    "doctor": "say what works on this machine, what is missing and how to get it",
    "completion": "print a script that completes ruvq's commands and flags in a shell",
}
EXIT_CODES = """exit codes:
  0  done
  1  the check or the work failed: damaged data, a wrong result, an internal error
  2  usage: an unknown flag, format or combination
  3  an input file is missing, damaged, foreign or doesn't fit the rest
  4  no space on the disk, or not enough memory
  5  something needed isn't installed
  130  interrupted"""
USAGE, BAD_INPUT, NO_SPACE, NOT_INSTALLED, FAILED, INTERRUPTED = 2, 3, 4, 5, 1, 130


class Parser(argparse.ArgumentParser):
    """argparse whose errors look like all others; abbreviated flags are not guessed."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        raise errors.UsageError(
            message, subject=self.prog, hint=f"`{self.prog} --help` lists flags and examples"
        )


def exit_code(error: BaseException) -> int:
    """The exit code that belongs to an exception."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, MemoryError):  # MemoryLimitError too
        return NO_SPACE
    if isinstance(error, OSError) and _is_full(error):
        return NO_SPACE
    if isinstance(error, (errors.UsageError, errors.ContextFullError)):
        return USAGE
    if isinstance(error, errors.MissingDependencyError):
        return NOT_INSTALLED
    if isinstance(error, (errors.IntegrityError, errors.SelfTestError)):
        return FAILED
    if isinstance(error, (errors.RuvqError, OSError)):
        return BAD_INPUT
    return FAILED


def _is_full(error: OSError) -> bool:
    causes = (error, error.__cause__)
    return any(
        isinstance(c, OSError) and c.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) for c in causes
    ) or (isinstance(error, errors.StorageError) and error.code == "NO_SPACE")


def build_parser(command: str | None, words: Sequence[str] = ()) -> Parser:
    """The parser; only the module of `command` is loaded, the others are listed by name. `words`: the command
    line, which may name a file of settings."""
    top = Parser(
        prog="ruvq",
        description="Language models at 2 and 3 bits, from the desktop to a browser tab, in one GGUF file.",
        epilog="`ruvq COMMAND --help` shows each command's flags and examples.\n\n" + EXIT_CODES,
    )
    top.add_argument("--version", action="version", version=f"ruvq {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)
    for name, summary in COMMANDS.items():
        if name != command:
            commands.add_parser(name, help=summary, add_help=False)
            continue
        module = importlib.import_module(f"ruvq.cli.{name.replace('-', '_')}_command")
        parser = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog="examples:\n" + module.EXAMPLES.rstrip() + "\n\n" + EXIT_CODES,
        )
        parser.add_argument(
            "--json", action="store_true", help="print one JSON object as the last line of standard output"
        )
        parser.add_argument("--quiet", action="store_true", help="no progress and no notes on standard error")
        module.add_arguments(parser)
        if getattr(module, "HAS_SETTINGS", False):
            from . import settings

            settings.add(parser, name, words)
        parser.set_defaults(run=module.run, prog=f"ruvq {name}")
    return top


def _command_of(arguments: Sequence[str]) -> str | None:
    """The command asked for: the first word that isn't a flag."""
    word = next((a for a in arguments if not a.startswith("-")), None)
    if word is not None and word not in COMMANDS:
        import difflib

        near = difflib.get_close_matches(word, COMMANDS, 1)
        raise errors.UsageError(
            "unknown command",
            subject=word,
            expected=", ".join(COMMANDS),
            hint=f"did you mean `ruvq {near[0]}`?" if near else "`ruvq --help` lists the commands",
        )
    return word


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; gives the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in words
    _terminate_like_interrupt()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a path or character that the terminal can't show
    try:
        command = _command_of(words)
        parser = build_parser(command, words)
        if command is None and not words:
            parser.print_help()
            return USAGE
        args = parser.parse_args(words)
        if command is None:
            return USAGE
        result: dict[str, Any] = _with_settings(args, command) if "show_config" in args else args.run(args)
        code = int(result.pop("exit_code", 0))
        if args.json:
            print_json(result)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads on: not an error
        return 0
    except (errors.RuvqError, KeyboardInterrupt, MemoryError, OSError) as error:
        return _report(error, as_json)


def _with_settings(args: argparse.Namespace, command: str) -> dict[str, Any]:
    """Runs a command whose flags may come from a file, or prints what they come to."""
    from ..settings_file import to_toml
    from . import settings

    settings.complete(args)
    if args.settings_file and not args.quiet:
        print(f"settings: {args.settings_file}", file=sys.stderr)
    if not args.show_config:
        return args.run(args)
    found = settings.effective(args, command)
    if not args.json:
        print(to_toml(found))
    return found


def _report(error: BaseException, as_json: bool) -> int:
    if isinstance(error, errors.RuvqError):
        details = error.as_dict()
        message = str(error)
    else:
        message = (
            "interrupted" if isinstance(error, KeyboardInterrupt) else str(error) or type(error).__name__
        )
        if isinstance(error, MemoryError):
            message = "not enough memory"
        details = {"error": type(error).__name__, "message": message}
    print(f"ruvq: {message}", file=sys.stderr)
    code = exit_code(error)
    if as_json:
        print_json({**details, "exit_code": code})
    return code


def print_json(value: dict[str, Any]) -> None:
    """One line of strict JSON: NaN and infinities become null."""
    line = json.dumps(finite(value), allow_nan=False, ensure_ascii=False) + "\n"
    print(line, end="", flush=True)  # in one piece: several processes of a training may share the terminal


def _terminate_like_interrupt() -> None:
    """SIGTERM unwinds like Ctrl-C, so that temporary files go."""

    def interrupt(signum: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    with contextlib.suppress(ValueError):  # not in the main thread: the host decides
        signal.signal(signal.SIGTERM, interrupt)
