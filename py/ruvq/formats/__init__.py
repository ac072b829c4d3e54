"""The weight formats the core computes with, by name: one registry, read from the C library.

Names match whatever their case, `-` and `_`: `get("PI_T3")` is `get("pi-t3")`. What the bytes of each mean
is docs/formats.md.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import cache

from .. import core
from ..core import CONSTANTS, structs
from ..errors import UsageError

__all__ = ["ALIASES", "Format", "all_formats", "by_id", "get", "get_writable", "names", "writable_names"]

# as people type them: the format that is meant
ALIASES = {
    "bitnet": "ternary",
    "t158": "ternary",
    "fp16": "f16",
    "fp32": "f32",
    "2bit": "pi-t2",
    "3bit": "pi-t3",
}


@dataclass(frozen=True)
class Format:
    """One weight format.

    `name` as in files and on the command line, `id` the core's RQ_FORMAT_* number, `ggml_type` the type id in
    the container (I8 for ruvq's own formats, which the metadata describes), `own` whether it is one of those,
    `any_width` whether rows of every width fit (else whole blocks of `block_weights` only), `writable`
    whether weights can be quantized to it (else it is read and computed with only).
    """

    name: str
    id: int
    ggml_type: int
    own: bool
    any_width: bool
    block_weights: int
    block_bytes: int
    writable: bool

    @property
    def nominal_bits(self) -> float:
        """Bits per weight of full blocks."""
        return 8 * self.block_bytes / self.block_weights

    def row_bytes(self, width: int) -> int:
        """Bytes of a row of `width` weights. UsageError when the format can't hold that width."""
        if not 1 <= width < 1 << 31 or (not self.any_width and width % self.block_weights):
            raise UsageError(
                "a row of that width doesn't fit the format",
                subject=self.name,
                expected="a width of 1 to 2^31 - 1"
                if self.any_width
                else f"a multiple of {self.block_weights}",
                actual=f"{width}",
                hint="" if self.any_width else "choose a format that takes any width, such as pi-t3 or f16",
            )
        return int(core.get().call("rq_format_row_bytes", self.id, width))

    def bits_per_weight(self, width: int) -> float:
        """Bits per weight of rows of `width`, headers and tails included."""
        return 8 * self.row_bytes(width) / width


@cache
def all_formats() -> tuple[Format, ...]:
    """Every format, in the order of their ids."""
    backend = core.get()
    out = []
    with backend.alloc(structs.size("rq_format_info")) as memory:
        for number in range(CONSTANTS["RQ_FORMAT_COUNT"]):
            backend.call("rq_format_describe", number, memory.address)
            info = structs.unpack("rq_format_info", backend.read(memory.address, memory.nbytes))
            out.append(
                Format(
                    name=structs.text(info["name"]),
                    id=info["format"],
                    ggml_type=info["ggml_type"],
                    own=bool(info["own"]),
                    any_width=bool(info["any_width"]),
                    block_weights=info["block_weights"],
                    block_bytes=info["block_bytes"],
                    writable=bool(info["writable"]),
                )
            )
    return tuple(out)


def names() -> list[str]:
    """The names of all formats."""
    return [f.name for f in all_formats()]


def writable_names() -> list[str]:
    """The names of the formats that weights can be quantized to."""
    return [f.name for f in all_formats() if f.writable]


def by_id(number: int) -> Format:
    """The format of an RQ_FORMAT_* number. UsageError when there is none."""
    formats = all_formats()
    if not 0 <= number < len(formats):
        raise UsageError("unknown format number", expected=f"0 to {len(formats) - 1}", actual=str(number))
    return formats[number]


def _key(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


@cache
def _by_key() -> dict[str, Format]:
    found = {_key(f.name): f for f in all_formats()}
    aliases = {alias: found[_key(name)] for alias, name in ALIASES.items() if _key(name) in found}
    return found | aliases


def get(name: str) -> Format:
    """The format meant by a name or alias. UsageError, with all names and the nearest, when there is none."""
    return _find(name, names())


def get_writable(name: str) -> Format:
    """As `get`, for a format that is to be written. UsageError, with the names, when it can only be read."""
    found = _find(name, writable_names())
    if not found.writable:
        raise UsageError(
            f"{found.name} is read and computed with, but not written",
            subject="format",
            expected="one of " + ", ".join(writable_names()),
            actual=repr(name),
            hint="choose a format that can be written",
        )
    return found


def _find(name: str, choices: list[str]) -> Format:
    """The format meant by a name; `choices` are those to tell of where there is none."""
    if not isinstance(name, str):
        raise UsageError(
            "a format is named by a string", expected=", ".join(choices), actual=type(name).__name__
        )
    found = _by_key()
    wanted = _key(name)
    if wanted in found:
        return found[wanted]
    known = {key: f.name for key, f in found.items() if f.name in choices}
    near = list(dict.fromkeys(known[key] for key in difflib.get_close_matches(wanted, known, 3, 0.5)))
    raise UsageError(
        "unknown format",
        subject="format",
        expected="one of " + ", ".join(choices),
        actual=repr(name),
        hint=f"did you mean {' or '.join(near)}?"
        if near
        else "see `ruvq quantize --help` for what each is for",
    )
