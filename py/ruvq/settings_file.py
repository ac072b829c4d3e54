"""`ruvq.toml`: the one reader and writer of the file that all commands and `QatConfig` share.

Everything in the file is checked before any work, also what only another command uses: a file that is right
for one command is right for all, and a mistyped key is an error that names the nearest one.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .calibrate.samples import DOMAINS
from .errors import StorageError, UsageError, VersionError

VERSION = 1  # of the sections and their meaning; the key `version` may say so
MOST_BYTES = 1 << 20
# sections of the same file that no command reads
ELSEWHERE = ("moe", "sona")
KINDS = {
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list of strings",
}
Sections = dict[str, dict[str, Any]]
Types = tuple[type, ...]
_TEXT, _WHOLE, _NUMBER, _SWITCH, _LIST = (str,), (int,), (float, int), (bool,), (list,)

# the keys of each section with the TOML types that they take
SECTIONS: dict[str, dict[str, Types]] = {
    "quantization": {
        "format": _TEXT,
        "k": _WHOLE,
        "bits": _WHOLE,
        "mixed_constants": _SWITCH,
        "target_size": (str, int),
        "target_bpw": _NUMBER,
        "candidates": _LIST,
        "embeddings": _TEXT,
        "output_tensor": _TEXT,
        "fallback": _TEXT,
        "scale": _TEXT,
        "strict": _SWITCH,
        "thorough": _SWITCH,
        "type_ids": _TEXT,
        "allow_requantize": _SWITCH,
    },
    "incoherence": {"enabled": _SWITCH, "method": _TEXT, "seed": _WHOLE, "rotate": _TEXT},
    "calibration": {
        "artifact": _TEXT,
        "damping": _NUMBER,
        "sequential": _SWITCH,
        "fisher": _SWITCH,
        **{f"{domain.replace('-', '_')}_samples": _WHOLE for domain in DOMAINS},
        "text": _LIST,
        "domains": _LIST,
        "samples": _WHOLE,
        "max_tokens": _WHOLE,
        "window": _WHOLE,
        "seed": _WHOLE,
        "diagonal": _SWITCH,
        "sensitivity": _SWITCH,
        "allow_outliers": _SWITCH,
    },
    "qat": {
        "enabled": _SWITCH,
        "k_per_layer": _SWITCH,
        "granularity": _TEXT,
        "activation_bits": _WHOLE,
        "ste": _TEXT,
        "ewgs_delta": _NUMBER,
        "refresh_every": _WHOLE,
        "search_every": _WHOLE,
        "learning_rate": (float, int, str),
        "quantizer_learning_rate": _NUMBER,
        "epochs": _WHOLE,
        "batch_size": _WHOLE,
        "gradient_accumulation": _WHOLE,
        "warmup": _NUMBER,
        "weight_decay": _NUMBER,
        "use_lora": _SWITCH,
        "lora_rank": _WHOLE,
        "lora_alpha": _NUMBER,
        "lora_init": _TEXT,
        "target_modules": _LIST,
    },
    "distillation": {
        "teacher_path": _TEXT,
        "alpha_task": _NUMBER,
        "beta_kd": _NUMBER,
        "gamma_reasoning": _NUMBER,
        "temperature": _NUMBER,
    },
}


def read(path: Path) -> Sections:
    """Sections of a file: their keys, known and of the right type. StorageError, UsageError, VersionError."""
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
    return parse(raw, str(path))


def parse(raw: bytes | str, name: str) -> Sections:
    """As `read`, of the file's bytes or text; `name` is what errors call it."""
    data = raw.encode() if isinstance(raw, str) else raw
    if len(data) > MOST_BYTES:
        raise UsageError(
            "this is too long for settings",
            subject=name,
            expected=f"at most {MOST_BYTES:,} bytes",
            actual=f"{len(data):,}",
        )
    try:
        found = tomllib.loads(data.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError("this isn't TOML", subject=name, expected="TOML 1.0", actual=str(error)) from error
    _check_version(found.pop("version", VERSION), name)
    out: Sections = {}
    for section, content in found.items():
        if section in ELSEWHERE:
            continue
        if section not in SECTIONS:
            raise _unknown("section", f"{name}: [{section}]", section, (*SECTIONS, *ELSEWHERE))
        if not isinstance(content, dict):
            raise UsageError(
                "this is a section, not a key",
                subject=f"{name}: {section}",
                expected=f"[{section}] with keys below it",
                actual=_kind(content),
            )
        out[section] = {key: _checked(name, section, key, value) for key, value in content.items()}
    return out


def _check_version(version: Any, name: str) -> None:
    if version != VERSION:
        raise VersionError(
            "the settings are of another version", subject=f"{name}: version", expected=str(VERSION),
            actual=str(version), hint="write them again with this ruvq",
        )  # fmt: skip


def _checked(name: str, section: str, key: str, value: Any) -> Any:
    where = f"{name}: [{section}] {key}"
    if key not in SECTIONS[section]:
        raise _unknown("key", where, key, SECTIONS[section])
    types = SECTIONS[section][key]
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
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    escaped = "".join(_escape(c) for c in str(value))
    return f'"{escaped}"'


def _escape(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return character if character.isprintable() else f"\\U{ord(character):08x}"
