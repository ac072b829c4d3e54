"""`ruvq.toml`: what the flags of `quantize` and `calibrate` say, in a file; a flag that is given wins.

The sections and their first keys are those that the project's configuration has always had. Everything in
the file is checked before any work, also what another command would use: a mistyped key is an error that
names the nearest one.
"""

from __future__ import annotations

import argparse
import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..calibrate.samples import DOMAINS
from ..errors import RuvqError, StorageError, UsageError

FILE = "ruvq.toml"  # taken from the current folder when it is there
MOST_BYTES = 1 << 20
# sections of the same file that other parts of the project read
ELSEWHERE = ("qat", "distillation", "moe", "sona")
KINDS = {
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list of strings",
}
FORMAT_OF_BITS = {2: "pi-t2", 3: "pi-t3"}
# the ways to say what is wanted, of which a flag replaces the file's
EXCLUSIVE = ("format", "target_size", "target_bpw")


@dataclass(frozen=True)
class Key:
    """One key: the TOML types it takes, and the argument it stands for, by command (none: see `_derived`)."""

    types: tuple[type, ...]
    arguments: Mapping[str, str] = field(default_factory=dict)
    path: bool = False  # relative to the file's folder


def _quantize(argument: str, *types: type, path: bool = False) -> Key:
    return Key(types or (str,), {"quantize": argument}, path)


def _calibrate(argument: str, *types: type, path: bool = False) -> Key:
    return Key(types or (str,), {"calibrate": argument}, path)


SECTIONS: dict[str, dict[str, Key]] = {
    "quantization": {
        "format": _quantize("format"),
        "k": _quantize("k", int),
        "bits": Key((int,)),
        "mixed_constants": Key((bool,)),
        "target_size": _quantize("target_size", str, int),
        "target_bpw": _quantize("target_bpw", float, int),
        "candidates": _quantize("candidates", list),
        "embeddings": _quantize("embeddings"),
        "output_tensor": _quantize("output_tensor"),
        "fallback": _quantize("fallback"),
        "scale": _quantize("scale"),
        "strict": _quantize("strict", bool),
        "type_ids": _quantize("type_ids"),
        "allow_requantize": _quantize("allow_requantize", bool),
    },
    "incoherence": {
        "enabled": Key((bool,)),
        "method": Key((str,)),
        "seed": _quantize("seed", int),
        "rotate": _quantize("rotate"),
    },
    "calibration": {
        "artifact": _quantize("calibration", path=True),
        "damping": _quantize("damping", float, int),
        **{f"{domain.replace('-', '_')}_samples": Key((int,)) for domain in DOMAINS},
        "text": _calibrate("text", list),
        "domains": _calibrate("domains", list),
        "samples": _calibrate("samples", int),
        "max_tokens": _calibrate("max_tokens", int),
        "window": _calibrate("window", int),
        "seed": _calibrate("seed", int),
        "diagonal": _calibrate("diagonal", bool),
        "sensitivity": _calibrate("sensitivity", bool),
        "allow_outliers": _calibrate("allow_outliers", bool),
    },
}


def add(parser: argparse.ArgumentParser, command: str, words: Sequence[str]) -> None:
    """Adds the flags about the file to a command's parser, and takes its defaults from the file that `words`
    name, or that lies in the current folder. Raises StorageError and UsageError."""
    group = parser.add_argument_group("settings")
    group.add_argument(
        "--settings", metavar="FILE",
        help=f"take flags that are not given from this TOML file (default: {FILE} of the current folder "
        "when it is there; none: from none)",
    )  # fmt: skip
    group.add_argument(
        "--show-config", action="store_true", help="print what all flags come to, as that file, and stop"
    )
    path = None if {"-h", "--help"} & set(words) else _path(words)
    parser.set_defaults(settings_file=None if path is None else str(path))
    if "--show-config" in words:
        for action in parser._actions:
            action.required = False
    if path is None:
        return
    values = read(path)
    for argument, value in arguments(values, command, path, given=words).items():
        _set_default(parser, argument, value, path)


def _path(words: Sequence[str]) -> Path | None:
    named = None
    for at, word in enumerate(words):
        if word == "--settings" and at + 1 < len(words):
            named = words[at + 1]
        elif word.startswith("--settings="):
            named = word.partition("=")[2]
    if named is None:
        return Path(FILE) if words and Path(FILE).is_file() else None
    return None if named == "none" else Path(named)


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Sections of a file: their keys, known and of the right type. StorageError, UsageError."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise StorageError(
            "the settings can't be read",
            subject=str(path),
            expected="a TOML file",
            actual=error.strerror or str(error),
            hint="check the path given with --settings",
        ) from error
    if len(raw) > MOST_BYTES:
        raise UsageError(
            "this is too long for settings",
            subject=str(path),
            expected=f"at most {MOST_BYTES:,} bytes",
            actual=f"{len(raw):,}",
        )
    try:
        found = tomllib.loads(raw.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(
            "this isn't TOML", subject=str(path), expected="TOML 1.0", actual=str(error)
        ) from error
    out: dict[str, dict[str, Any]] = {}
    for section, content in found.items():
        if section in ELSEWHERE:
            continue
        if section not in SECTIONS:
            raise _unknown("section", f"{path}: [{section}]", section, (*SECTIONS, *ELSEWHERE))
        if not isinstance(content, dict):
            raise UsageError(
                "this is a section, not a key",
                subject=f"{path}: {section}",
                expected=f"[{section}] with keys below it",
                actual=_kind(content),
            )
        out[section] = {key: _checked(path, section, key, value) for key, value in content.items()}
    return out


def _checked(path: Path, section: str, key: str, value: Any) -> Any:
    where = f"{path}: [{section}] {key}"
    if key not in SECTIONS[section]:
        raise _unknown("key", where, key, SECTIONS[section])
    types = SECTIONS[section][key].types
    right = type(value) in types and (
        not isinstance(value, list) or all(isinstance(item, str) for item in value)
    )
    if not right:
        raise UsageError(
            "a setting is of another type",
            subject=where,
            expected=" or ".join(KINDS[t] for t in types),
            actual=_kind(value),
        )
    return value


def _kind(value: Any) -> str:
    if isinstance(value, list):
        return "a list" + (" that holds something else" if value else "")
    if isinstance(value, dict):
        return "a section"
    return f"{KINDS.get(type(value), type(value).__name__)}: {value!r}"[:80]


def _unknown(what: str, subject: str, name: str, known: Iterable[str]) -> UsageError:
    near = difflib.get_close_matches(name, list(known), 1, 0.4)
    return UsageError(
        f"unknown {what}",
        subject=subject,
        expected=", ".join(known),
        actual=name,
        hint=f"did you mean {near[0]}?" if near else "take it out",
    )


def arguments(
    values: Mapping[str, Mapping[str, Any]], command: str, path: Path, given: Sequence[str] = ()
) -> dict[str, Any]:
    """The command's arguments as the file's sections have them: name → value. Of format and targets, which
    exclude each other, none when `given` (the words of the command line) has one."""
    out: dict[str, Any] = {}
    for section, content in values.items():
        for key, value in content.items():
            entry = SECTIONS[section][key]
            if command in entry.arguments:
                out[entry.arguments[command]] = str(path.parent / value) if entry.path else value
    out |= _derived(values, command, path)
    flags = {word.partition("=")[0] for word in given}
    if any("--" + name.replace("_", "-") in flags for name in EXCLUSIVE):
        out = {name: value for name, value in out.items() if name not in EXCLUSIVE}
    return out


def _derived(values: Mapping[str, Mapping[str, Any]], command: str, path: Path) -> dict[str, Any]:
    """What several keys come to together."""
    out: dict[str, Any] = {}
    if command == "calibrate":
        chosen = values.get("calibration", {})
        if "text" in chosen:
            out["text"] = [_beside(path, text) for text in chosen["text"]]
        if "domains" in chosen:
            out["domains"] = ",".join(chosen["domains"])
        names = {d: f"{d.replace('-', '_')}_samples" for d in DOMAINS}
        counts = [f"{domain}={chosen[name]}" for domain, name in names.items() if name in chosen]
        return out | ({"count": counts} if counts else {})
    chosen = values.get("quantization", {})
    if chosen.get("mixed_constants"):
        raise UsageError(
            "mixed constants are not written",
            subject=f"{path}: [quantization] mixed_constants",
            expected="false",
            actual="true",
            hint="with a searched scale every constant gives the same grid (docs/pi-quant.md)",
        )
    if "bits" in chosen:
        out |= _format_of_bits(chosen, path)
    turn = values.get("incoherence", {})
    if turn:
        method = turn.get("method", "hadamard")
        out["incoherence"] = method if turn.get("enabled", True) else "none"
    if "candidates" in chosen:
        out["candidates"] = ",".join(chosen["candidates"])
    return out


def _beside(path: Path, text: str) -> str:
    """ "math=a.jsonl" of a file in another folder."""
    domain, equals, name = text.rpartition("=")
    return f"{domain}{equals}{path.parent / name}"


def _format_of_bits(chosen: Mapping[str, Any], path: Path) -> dict[str, str]:
    """`bits` chooses the format where none is named, and must fit the one that is."""
    from .. import formats
    from ..quantize import mixes

    bits, where = chosen["bits"], f"{path}: [quantization] bits"
    if "format" in chosen:
        mix = mixes.find(chosen["format"])
        nominal = formats.get(mix.most if mix else chosen["format"]).nominal_bits
        if int(nominal) != bits:
            raise UsageError(
                "bits and format contradict each other",
                subject=where,
                expected=f"{int(nominal)}, as {chosen['format']} has",
                actual=str(bits),
            )
        return {}
    if "target_size" in chosen or "target_bpw" in chosen:
        return {}
    if bits not in FORMAT_OF_BITS:
        raise UsageError(
            "no format has so many bits",
            subject=where,
            expected=", ".join(f"{n} ({name})" for n, name in FORMAT_OF_BITS.items()),
            actual=str(bits),
            hint="name a format instead",
        )
    return {"format": FORMAT_OF_BITS[bits]}


def _set_default(parser: argparse.ArgumentParser, argument: str, value: Any, path: Path) -> None:
    """A value of the file as the default of its flag, checked as the flag's own would be."""
    action = next(a for a in parser._actions if a.dest == argument)
    action.required = False
    if not isinstance(value, (list, bool)):
        try:
            convert: Any = action.type or str
            value = convert(str(value))
        except (argparse.ArgumentTypeError, RuvqError) as error:
            raise UsageError(
                "a setting can't be used", subject=f"{path}: {argument}", actual=str(error)
            ) from error
        if action.choices is not None and value not in action.choices:
            raise UsageError(
                "a setting can't be used",
                subject=f"{path}: {argument}",
                expected=", ".join(map(str, action.choices)),
                actual=str(value),
            )
    if isinstance(value, list):  # a flag given several times would be added to its default
        action.default = None
        parser.set_defaults(settings_lists={**(parser.get_default("settings_lists") or {}), argument: value})
    else:
        parser.set_defaults(**{argument: value})


def complete(args: argparse.Namespace) -> None:
    """After parsing: lists of the file for flags that were not given."""
    for argument, value in (getattr(args, "settings_lists", None) or {}).items():
        if not getattr(args, argument):
            setattr(args, argument, value)


def effective(args: argparse.Namespace, command: str) -> dict[str, dict[str, Any]]:
    """All settings of a command in the file's sections: what flags, file and defaults come to."""
    out: dict[str, dict[str, Any]] = {}
    for section, keys in SECTIONS.items():
        found = {}
        for key, entry in keys.items():
            value = getattr(args, entry.arguments.get(command, ""), None)
            if value is None or value is False or value == []:
                continue
            found[key] = value.split(",") if entry.types == (list,) and isinstance(value, str) else value
        if section == "incoherence" and command == "quantize":
            found = {"enabled": args.incoherence != "none", "method": args.incoherence, **found}
            if args.incoherence == "none":
                del found["method"]
        if section == "calibration" and command == "calibrate":
            counts = dict(text.split("=", 1) for text in args.count or ())
            found |= {f"{d.replace('-', '_')}_samples": int(n) for d, n in counts.items()}
        if found:
            out[section] = found
    return out


def to_toml(settings: Mapping[str, Mapping[str, Any]]) -> str:
    """The settings as a file that `read` takes."""
    lines = []
    for section, content in settings.items():
        lines += [f"[{section}]", *(f"{key} = {_toml(value)}" for key, value in content.items()), ""]
    return "\n".join(lines).rstrip("\n")


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    escaped = "".join(_escape(c) for c in str(value))
    return f'"{escaped}"'


def _escape(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return character if character.isprintable() else f"\\U{ord(character):08x}"
