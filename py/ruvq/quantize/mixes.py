"""Mixes of ggml's formats: most matrices in one, those that matter more in a larger one.

The rule is the one that llama.cpp's files of the same names follow (docs/quantize.md): the output matrix (a
tied embedding is that, too), and in every eighth of the layers at either end, and every third between them,
the values of attention and the second matrix of the feed-forward.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .. import formats
from ..errors import UsageError

EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"
_MORE = ("attn_v", "ffn_down")  # the kinds of matrices that take turns
_CHEAPEST_FIRST = ("iq4_nl", "q8_0", "f16")  # what `fallback="auto"` chooses from


@dataclass(frozen=True)
class Mix:
    """`most`: the format of most matrices, `more`: of the others; `file_type`: llama.cpp's number for it."""

    name: str
    most: str
    more: str
    file_type: int

    def format_of(self, tensor: str, layers: int, tied: bool) -> str:
        """The format's name for a matrix of a model with so many layers."""
        if tensor == (EMBEDDING if tied else OUTPUT):
            return self.more
        parts = tensor.split(".")
        takes_turns = len(parts) == 4 and parts[0] == "blk" and parts[2] in _MORE
        return self.more if takes_turns and in_turn(int(parts[1]), layers) else self.most


MIXES = {mix.name: mix for mix in (Mix("q4_k_m", "q4_k", "q6_k", 15), Mix("q5_k_m", "q5_k", "q6_k", 17))}


def in_turn(layer: int, layers: int) -> bool:
    """Whether a layer is in the first or the last eighth, or the third of three between them."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def find(name: str) -> Mix | None:
    """The mix of a name, whatever its case, `-` and `_`; None where it isn't one."""
    key = name.lower().replace("-", "").replace("_", "")
    return next((mix for mix in MIXES.values() if mix.name.replace("_", "") == key), None)


def check_writable(name: str) -> None:
    """UsageError, with all names, when `name` is no format and no mix that can be written here."""
    mix = find(name)
    if mix is not None:
        formats.get_writable(mix.most)
        formats.get_writable(mix.more)
        return
    try:
        formats.get_writable(name)
    except UsageError as error:
        if any(mix.most in formats.writable_names() for mix in MIXES.values()):
            error.expected = ", ".join([error.expected, *MIXES])
        raise


def layers_of(tensors: Iterable[str]) -> int:
    """Layers of a model with these tensors."""
    numbers = (name.split(".")[1] for name in tensors if name.startswith("blk."))
    return 1 + max((int(n) for n in numbers if n.isdigit()), default=-1)


def fallback_for(format: formats.Format, width: int) -> formats.Format:
    """The format of fewest bits, but no fewer than `format` has, that holds rows of this width."""
    names = (n for n in _CHEAPEST_FIRST if n in formats.writable_names())
    for second in map(formats.get, names):
        fits = second.any_width or width % second.block_weights == 0
        if fits and second.nominal_bits >= format.nominal_bits:
            return second
    return formats.get("f32")
