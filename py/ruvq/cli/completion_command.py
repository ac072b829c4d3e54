"""`ruvq completion`: what a shell needs to complete commands, flags and their values; made from the
parsers."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

EXAMPLES = """  source <(ruvq completion bash)
  ruvq completion bash > ~/.local/share/bash-completion/completions/ruvq
  ruvq completion zsh > "${fpath[1]}/_ruvq"
  ruvq completion fish > ~/.config/fish/completions/ruvq.fish"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    parser.add_argument("shell", choices=sorted(SHELLS), help="the shell that the script is for")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Prints the script; with --json it is the value of "script"."""
    script = SHELLS[args.shell](commands())
    if not args.json:
        print(script)
    return {"shell": args.shell, "script": script}


@dataclass(frozen=True)
class Flag:
    """`names`: "--seed" and the like; `values`: what can follow (empty: anything); `takes_value`."""

    names: tuple[str, ...]
    help: str
    takes_value: bool
    values: tuple[str, ...]


@dataclass(frozen=True)
class Command:
    """A command with its flags; `words`: what may stand without a flag (empty: a file)."""

    name: str
    help: str
    flags: tuple[Flag, ...]
    words: tuple[str, ...]


def commands() -> list[Command]:
    """All commands, by their own parsers."""
    from .main import COMMANDS, build_parser

    out = []
    for name, summary in COMMANDS.items():
        (group,) = (a for a in build_parser(name)._actions if isinstance(a, argparse._SubParsersAction))
        actions = group.choices[name]._actions
        flags = tuple(_flag(action) for action in actions if action.option_strings)
        words = (str(c) for a in actions if not a.option_strings for c in a.choices or ())
        out.append(Command(name, summary, flags, tuple(words)))
    return out


def _flag(action: argparse.Action) -> Flag:
    help = (action.help or "").replace("%%", "%").replace("%(prog)s", "ruvq")
    values = tuple(str(choice) for choice in action.choices or ())
    return Flag(tuple(action.option_strings), help, action.nargs != 0, values)


def _bash(found: Sequence[Command]) -> str:
    cases, values = [], []
    for command in found:
        words = " ".join([*command.words, *(n for f in command.flags for n in f.names)])
        cases.append(f'    {command.name}) words="{words}" ;;')
        for flag in command.flags:
            for name in flag.names if flag.takes_value else ():
                choices = f'choices="{" ".join(flag.values)}"' if flag.values else "files=1"
                values.append(f"    {command.name}:{name}) {choices} ;;")
    names = " ".join(c.name for c in found)
    return "\n".join(
        [
            "# bash completion for ruvq",
            "_ruvq() {",
            '  local now="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"',
            '  local command="${COMP_WORDS[1]}" words="" choices="" files=""',
            "  if ((COMP_CWORD == 1)); then",
            f'    COMPREPLY=($(compgen -W "{names} --help --version" -- "$now"))',
            "    return",
            "  fi",
            '  case "$command:$before" in',
            *values,
            "  esac",
            '  if [[ -n $choices ]]; then COMPREPLY=($(compgen -W "$choices" -- "$now")); return; fi',
            '  if [[ -n $files ]]; then COMPREPLY=($(compgen -f -- "$now")); return; fi',
            '  case "$command" in',
            *cases,
            "  esac",
            '  COMPREPLY=($(compgen -W "$words" -- "$now"))',
            '  [[ $now == -* ]] || COMPREPLY+=($(compgen -f -- "$now"))',
            "}",
            "complete -o filenames -F _ruvq ruvq",
        ]
    )


def _zsh(found: Sequence[Command]) -> str:
    def text(help: str) -> str:
        return help.translate(str.maketrans("[]:", "() ", "'`\\"))

    lines = ["#compdef ruvq", "# zsh completion for ruvq", "_ruvq() {", "  local -a commands", "  commands=("]
    lines += [f"    '{c.name}:{text(c.help)}'" for c in found]
    lines += [
        "  )",
        "  if ((CURRENT == 2)); then _describe command commands; return; fi",
        "  case $words[2] in",
    ]
    for command in found:
        lines.append(f"    {command.name}) _arguments -S \\")
        for flag in command.flags:
            value = f":value:({' '.join(flag.values)})" if flag.values else ":value:_files"
            for name in flag.names:
                lines.append(f"      '*{name}[{text(flag.help)}]{value if flag.takes_value else ''}' \\")
        rest = f"({' '.join(command.words)})" if command.words else "_files"
        lines.append(f"      '*:argument:{rest}' ;;")
    return "\n".join([*lines, "  esac", "}", '_ruvq "$@"'])


def _fish(found: Sequence[Command]) -> str:
    def text(help: str) -> str:
        return "'" + help.replace("\\", "\\\\").replace("'", "\\'") + "'"

    lines = ["# fish completion for ruvq"]
    for command in found:
        lines.append(
            f"complete -c ruvq -n __fish_use_subcommand -f -a {command.name} -d {text(command.help)}"
        )
        here = f"complete -c ruvq -n '__fish_seen_subcommand_from {command.name}'"
        for flag in command.flags:
            names = " ".join(f"-l {n[2:]}" if n.startswith("--") else f"-s {n[1:]}" for n in flag.names)
            value = f" -x -a '{' '.join(flag.values)}'" if flag.values else " -r" if flag.takes_value else ""
            lines.append(f"{here} {names}{value} -d {text(flag.help)}")
        if command.words:
            lines.append(f"{here} -f -a '{' '.join(command.words)}'")
    return "\n".join(lines)


SHELLS: dict[str, Callable[[Sequence[Command]], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
