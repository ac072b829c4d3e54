"""`ruvq chat`: a conversation in the terminal, or one turn from standard input."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RuvqError, StorageError, UsageError
from .console import note, whole
from .opening import add_model_arguments, open_model
from .sampling import add_sampling_arguments, sampling_options

if TYPE_CHECKING:
    from ..runtime.generation import Generation
    from ..runtime.model import Model

EXAMPLES = """  ruvq chat model.gguf
  ruvq chat model.gguf --system "You answer in one sentence." --temperature 0.2
  ruvq chat model.gguf --template chat_template.jinja --var enable_thinking=false
  echo "What is a tree?" | ruvq chat model.gguf --json
  echo '{"messages": [{"role": "user", "content": "Hi"}], "tools": []}' | ruvq chat model.gguf --json

in a conversation:
  /help          what can be typed
  /reset         forget the conversation (the system prompt stays)
  /save FILE     write the conversation as JSON, which --json reads again
  /quit          leave (so does Ctrl-D)
  Ctrl-C         stop the answer, which stays as far as it got; at the prompt: leave"""
HELP = EXAMPLES[EXAMPLES.index("  /help") :]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    add_model_arguments(parser)
    parser.add_argument("--system", metavar="TEXT", help="system prompt, the conversation's first message")
    parser.add_argument(
        "--template", metavar="FILE|NAME",
        help="a Jinja template, or the name of one in the file (default: the file's own; there is no other)",
    )  # fmt: skip
    parser.add_argument(
        "--var", action="append", default=[], metavar="NAME=VALUE",
        help="a variable for the template, its value as JSON or else as text; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--max-tokens", type=whole(1, 1 << 24), help="tokens of an answer (default: what the context leaves)"
    )
    add_sampling_arguments(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Runs the command."""
    options = {
        **sampling_options(args),
        "max_tokens": args.max_tokens,
        "template": _template(args.template),
        "variables": _variables(args.var),
    }
    first = [{"role": "system", "content": args.system}] if args.system is not None else []
    given = _request(sys.stdin.buffer.read()) if args.json else {}
    model, kv = open_model(args)
    with model:
        if args.json:
            messages = [*first, *given.pop("messages")]
            return {**_one_turn(model, messages, {**options, **given}), "kv": kv, "file": args.file}
        return _Conversation(args, model, first, options).run()


def _one_turn(model: Model, messages: list[dict[str, Any]], options: dict[str, Any]) -> dict[str, Any]:
    generation = model.chat(messages, **options)
    for _ in generation:
        pass
    return {
        "text": generation.text,
        "messages": [*messages, {"role": "assistant", "content": generation.text}],
        "finish_reason": generation.finish_reason,
        "seed": generation.sampling.seed if options["temperature"] > 0 else None,
        **_counts(model, generation),
    }


def _counts(model: Model, generation: Generation) -> dict[str, Any]:
    stats = generation.stats
    return {
        "prompt_tokens": stats.prompt_tokens,
        "cached_tokens": stats.cached_tokens,
        "answer_tokens": stats.decode_tokens,
        "context": model.info.context_tokens,
        "context_left": max(0, model.info.context_tokens - stats.prompt_tokens - stats.decode_tokens),
        "tokens_per_second": stats.tokens_per_second,
    }


class _Conversation:
    """Turns typed at a terminal, or lines of a file."""

    def __init__(
        self, args: argparse.Namespace, model: Model, first: list[dict[str, Any]], options: dict[str, Any]
    ) -> None:
        self._args, self._model, self._first, self._options = args, model, first, options
        self._messages = list(first)
        self._interactive = sys.stdin.isatty()

    def run(self) -> dict[str, Any]:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 - arrow keys and earlier lines at the prompt
        probe = [*self._first, {"role": "user", "content": "Hello"}]
        chat = ("template", "variables")
        self._model.chat_prompt(probe, **{name: self._options[name] for name in chat})  # refused now or never
        if self._interactive:
            note(self._args, "Type a message; /help lists what else can be typed.")
        while True:
            try:
                line = input("> " if self._interactive else "")
            except EOFError:
                break
            if not line.strip():
                continue
            if line.startswith("/"):
                if not self._command(line):
                    break
                continue
            self._turn(line)
        return {"messages": self._messages}

    def _turn(self, line: str) -> None:
        """One question and its answer. What can't be asked isn't kept."""
        messages = [*self._messages, {"role": "user", "content": line}]
        try:
            generation = self._model.chat(messages, **self._options)
            self._answer(generation)
        except RuvqError as error:
            if not self._interactive:
                raise
            print(f"ruvq: {error}", file=sys.stderr)
            return
        self._messages = [*messages, {"role": "assistant", "content": generation.text}]
        counts = _counts(self._model, generation)
        note(
            self._args,
            f"[{counts['answer_tokens']} tokens at {counts['tokens_per_second']:.1f} tokens/s, "
            f"{counts['context_left']} of {counts['context']} left, ended by {generation.finish_reason}]",
        )

    def _answer(self, generation: Generation) -> None:
        """Prints an answer; Ctrl-C ends it where it is."""
        try:
            for piece in generation:
                print(piece, end="", flush=True)
        except KeyboardInterrupt:
            generation.close()
        print(flush=True)

    def _command(self, line: str) -> bool:
        """False: leave."""
        name, _, rest = line.strip().partition(" ")
        if name in ("/quit", "/exit"):
            return False
        if name == "/reset":
            self._messages = list(self._first)
            self._model.reset()
            note(self._args, "The conversation is forgotten.")
        elif name == "/save":
            self._save(rest.strip())
        else:
            print(HELP, file=sys.stderr)
        return True

    def _save(self, name: str) -> None:
        if not name:
            print("ruvq: /save needs a file name", file=sys.stderr)
            return
        text = json.dumps({"messages": self._messages}, ensure_ascii=False, indent=1) + "\n"
        part = Path(name + ".part")
        try:
            part.write_text(text, encoding="utf-8")
            part.replace(name)
        except OSError as error:
            print(f"ruvq: {name}: can't be written ({error.strerror or error})", file=sys.stderr)
            return
        note(self._args, f"{len(self._messages)} messages are in {name}.")


def _template(given: str | None) -> str | None:
    """The text of a file, where there is one of this name."""
    if given is None or not Path(given).is_file():
        return given
    try:
        return Path(given).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError("the template can't be read", subject=given, actual=str(error)) from error


def _variables(given: list[str]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError("not a variable", subject="--var", expected="NAME=VALUE", actual=text)
        try:
            out[name] = json.loads(value)
        except ValueError:
            out[name] = value
    return out


def _request(raw: bytes) -> dict[str, Any]:
    """Messages (and tools) from standard input: JSON, or the text of a user's message."""
    text = raw.decode("utf-8", "replace")
    if text.lstrip()[:1] in ("[", "{"):
        try:
            found = json.loads(text)
        except ValueError as error:
            raise UsageError(
                "standard input begins like JSON and is none",
                expected='{"messages": [...]} or a list of messages',
                actual=str(error),
                hint='write a text that begins so as {"messages": [{"role": "user", "content": ...}]}',
            ) from error
        given = {"messages": found} if isinstance(found, list) else found
        if set(given) - {"messages", "tools"} or not isinstance(given.get("messages"), list):
            raise UsageError(
                "not a conversation", expected="messages, a list, and perhaps tools", actual=", ".join(given)
            )
        return given
    if not text.strip():
        raise UsageError("nothing was asked", subject="standard input", expected="a message", actual="none")
    return {"messages": [{"role": "user", "content": text.rstrip("\n")}]}
