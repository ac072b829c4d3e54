"""The order of q's and k's rows: GGUF's llama turns neighbours by RoPE, Hugging Face elements half a head
apart. Other architectures keep Hugging Face's order in GGUF too."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any

from .llama import LlamaParameters, rotary_rows

Rows = Callable[[int, int], Any]  # rows [first, last) as a buffer of float32


def to_gguf_order(rows: Rows, target: str, width: int, parameters: LlamaParameters) -> Rows:
    """`rows` of the tensor that GGUF calls `target`, from Hugging Face's order to GGUF's."""
    order = row_order(target, parameters)
    return rows if order is None else _reordered(rows, order, target, width, parameters.head_width)


def from_gguf_order(rows: Rows, target: str, width: int, parameters: LlamaParameters) -> Rows:
    """The other way round."""
    order = row_order(target, parameters)
    if order is None:
        return rows
    back = [0] * len(order)
    for ours, theirs in enumerate(order):
        back[theirs] = ours
    return _reordered(rows, back, target, width, parameters.head_width)


def row_order(target: str, parameters: LlamaParameters) -> list[int] | None:
    """For each row of GGUF's the row of Hugging Face's; None where they are the same."""
    heads = {"attn_q": parameters.heads, "attn_k": parameters.kv_heads}.get(target.split(".")[-2])
    if heads is None or parameters.kind.rope_neox:
        return None
    return rotary_rows(heads, parameters.head_width)


def _reordered(rows: Rows, order: list[int], target: str, width: int, head: int) -> Rows:
    if target.endswith(".bias"):

        def all_of_them(first: int, last: int) -> Any:
            values = memoryview(rows(0, 1)).cast("B").cast("f")
            return array("f", [values[i] for i in order])

        return all_of_them

    def some(first: int, last: int) -> Any:
        begin, end = first // head * head, -(-last // head) * head  # whole heads
        data = memoryview(rows(begin, end)).cast("B")
        places = [(row - begin) * 4 * width for row in order[first:last]]
        return b"".join([data[at : at + 4 * width] for at in places])

    return some
