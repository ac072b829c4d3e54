"""Flags of `quantize`, `calibrate` and `qat` from `ruvq.toml` (settings_file.py); a given flag wins."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..calibrate.samples import DOMAINS
from ..errors import RuvqError, UsageError
from ..settings_file import SECTIONS, Sections, read

FILE = "ruvq.toml"  # taken from the current folder when it is there
FORMAT_OF_BITS = {2: "pi-t2", 3: "pi-t3"}
# the ways to say what is wanted, of which a flag replaces the file's
EXCLUSIVE = ("format", "target_size", "target_bpw")
PATHS = (("calibration", "artifact"), ("distillation", "teacher_path"))  # relative to the file's folder

# the keys that stand for an argument of another name; without an entry a key is the argument of its name
_RENAMED = {
    ("calibration", "artifact"): "calibration",
    ("distillation", "teacher_path"): "teacher",
    ("distillation", "alpha_task"): "task_weight",
    ("distillation", "beta_kd"): "kd_weight",
    ("distillation", "gamma_reasoning"): "reasoning_weight",
}
# keys that several arguments or none come from: see `_derived`
_COMPUTED = {
    ("quantization", "bits"),
    ("quantization", "mixed_constants"),
    ("incoherence", "enabled"),
    ("incoherence", "method"),
    ("qat", "enabled"),
    *(("calibration", f"{domain.replace('-', '_')}_samples") for domain in DOMAINS),
}
_FOR_QUANTIZE = ("artifact", "damping", "sequential")  # of [calibration]; the rest is for `calibrate`
_FOR_QAT = (("quantization", "format"), ("quantization", "k"), ("quantization", "embeddings"),
            ("incoherence", "seed"))  # fmt: skip


def argument_of(section: str, key: str, command: str) -> str | None:
    """The argument of a command that a key stands for by itself, or None."""
    if (section, key) in _COMPUTED:
        return None
    if section == "calibration":
        mine = command == ("quantize" if key in _FOR_QUANTIZE else "calibrate")
    elif command == "qat":
        mine = section in ("qat", "distillation") or (section, key) in _FOR_QAT
    else:
        mine = command == "quantize" and section in ("quantization", "incoherence")
    return _RENAMED.get((section, key), key) if mine else None


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


def arguments(
    values: Mapping[str, Mapping[str, Any]], command: str, path: Path, given: Sequence[str] = ()
) -> dict[str, Any]:
    """The command's arguments as the file's sections have them: name → value. Of format and targets, which
    exclude each other, none when `given` (the words of the command line) has one."""
    out: dict[str, Any] = {}
    for section, content in values.items():
        for key, value in content.items():
            argument = argument_of(section, key, command)
            if argument is not None:
                out[argument] = str(path.parent / value) if (section, key) in PATHS else value
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
        out |= _format_of_bits(chosen, path, command)
    turn = values.get("incoherence", {})
    if turn:
        method = turn.get("method", "hadamard")
        out["incoherence"] = method if turn.get("enabled", True) else "none"
    if command == "quantize" and "candidates" in chosen:
        out["candidates"] = ",".join(chosen["candidates"])
    modules = values.get("qat", {}).get("target_modules")
    if command == "qat" and modules is not None:
        out["target_modules"] = ",".join(modules)
    return out


def _beside(path: Path, text: str) -> str:
    """ "math=a.jsonl" of a file in another folder."""
    domain, equals, name = text.rpartition("=")
    return f"{domain}{equals}{path.parent / name}"


def _format_of_bits(chosen: Mapping[str, Any], path: Path, command: str) -> dict[str, Any]:
    """`bits` chooses the format where none is named, and must fit the one that is; training's reference grids
    have any number of them."""
    from .. import formats
    from ..quantize import mixes
    from ..train.config import REFERENCES

    bits, where = chosen["bits"], f"{path}: [quantization] bits"
    if command == "qat" and chosen.get("format") in REFERENCES:
        return {"bits": bits}
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


def effective(args: argparse.Namespace, command: str) -> Sections:
    """All settings of a command in the file's sections: what flags, file and defaults come to."""
    out: Sections = {}
    for section, keys in SECTIONS.items():
        found = {}
        for key, types in keys.items():
            value = getattr(args, argument_of(section, key, command) or "", None)
            if value is None or value is False or value == []:
                continue
            found[key] = value.split(",") if types == (list,) and isinstance(value, str) else value
        if section == "incoherence" and command == "quantize":
            found = {"enabled": args.incoherence != "none", "method": args.incoherence, **found}
            if args.incoherence == "none":
                del found["method"]
        if section == "calibration" and command == "calibrate":
            counts = dict(text.split("=", 1) for text in args.count or ())
            found |= {f"{d.replace('-', '_')}_samples": int(n) for d, n in counts.items()}
        if found:
            out[section] = found
    if command == "qat":
        from .qat_command import settings_of

        for section, found in settings_of(args).sections().items():
            out[section] = {**out.get(section, {}), **found}
        if args.learning_rate is None:
            out["qat"]["learning_rate"] = "auto"
    return out
