"""The registry of formats as Python sees it: names, aliases, sizes."""

from __future__ import annotations

import pytest

import ruvq
from formats import oracle
from ruvq import core, formats
from ruvq.errors import UsageError

READ_ONLY = [name for name in oracle.GGML if name not in oracle.GGML_WRITTEN]


def test_all_formats_are_there_in_the_order_of_their_ids() -> None:
    assert formats.names() == oracle.FORMATS
    assert [f.id for f in formats.all_formats()] == list(range(len(oracle.FORMATS)))
    assert all(formats.by_id(f.id) is f for f in formats.all_formats())


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("pi-t3", "pi-t3"), ("PI_T3", "pi-t3"), ("pit3", "pi-t3"), ("3bit", "pi-t3"), ("2Bit", "pi-t2"),
        ("BitNet", "ternary"), ("t158", "ternary"), ("FP16", "f16"), ("fp32", "f32"), ("Q8_0", "q8_0"),
        ("q80", "q8_0"), ("pi_ternary", "pi-ternary"), ("bf-16", "bf16"),
    ],
)  # fmt: skip
def test_names_match_whatever_their_case_and_punctuation(typed: str, name: str) -> None:
    assert formats.get(typed).name == name


@pytest.mark.parametrize(("typed", "near"), [("pi-t4", "pi-t3"), ("tern", "ternary"), ("q8", "q8_0")])
def test_unknown_names_are_answered_with_all_names_and_the_nearest(typed: str, near: str) -> None:
    with pytest.raises(UsageError) as caught:
        formats.get(typed)
    assert near in caught.value.hint
    assert all(name in caught.value.expected for name in formats.names())
    assert typed in caught.value.actual


def test_other_unknown_things_are_refused() -> None:
    for bad in ("", "zebra", None, 3):
        with pytest.raises(UsageError):
            formats.get(bad)  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        formats.by_id(99)


@pytest.mark.parametrize("name", oracle.FORMATS)
def test_row_bytes_and_bits_are_exact_at_every_width(name: str) -> None:
    entry = formats.get(name)
    for width in (1, 17, 32, 64, 172, 255, 256, 300, 576, 768, 896):
        if not entry.any_width and width % entry.block_weights:
            with pytest.raises(UsageError, match="multiple of"):
                entry.row_bytes(width)
            continue
        assert entry.row_bytes(width) == oracle.row_bytes(name, width)
        assert entry.bits_per_weight(width) == 8 * oracle.row_bytes(name, width) / width
    with pytest.raises(UsageError):
        entry.row_bytes(0)
    if entry.own:
        assert entry.any_width
        assert entry.nominal_bits == 8 * oracle.row_bytes(name, 256) / 256


def test_formats_that_are_only_read_are_refused_for_writing() -> None:
    assert formats.writable_names() == oracle.WRITTEN
    for name in READ_ONLY:
        with pytest.raises(UsageError, match="not written") as caught:
            formats.get_writable(name)
        assert "pi-t3" in caught.value.expected
        with pytest.raises(UsageError, match="not written"):
            ruvq.quantize([[0.0] * 256], name)


@pytest.mark.parametrize("name", READ_ONLY)
def test_the_core_names_what_can_be_written(name: str) -> None:
    c, number = core.get(), formats.get(name).id
    with c.alloc(4096) as memory:
        m, end = memory.address, memory.end
        with pytest.raises(UsageError, match=name) as caught:
            c.call("rq_encode", number, 0, m, 0, 1, 256, m, m, end)
    assert all(each in caught.value.expected for each in oracle.WRITABLE)
