"""Which native library is opened: on Arm the one with dot products, where every core has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ruvq.core import native

ARM = "processor\t: {n}\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd {more}\n\n"


@pytest.mark.parametrize(
    ("cores", "expected"),
    [
        (["asimddp", "asimddp"], True),
        (["asimddp", "crc32"], False),
        (["crc32"], False),
        ([], False),
    ],
)
def test_dot_products_are_used_where_every_core_has_them(
    tmp_path: Path, cores: list[str], expected: bool
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("".join(ARM.format(n=n, more=more) for n, more in enumerate(cores)))
    assert native._has_dot_products(cpuinfo) is expected


def test_a_machine_that_says_nothing_has_none(tmp_path: Path) -> None:
    assert native._has_dot_products(tmp_path / "absent") is False


def test_the_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUVQ_LIBRARY", raising=False)
    monkeypatch.setattr(native.sys, "platform", "linux")
    (tmp_path / "libruvq.so").touch()
    monkeypatch.setattr(native, "_has_dot_products", lambda: True)
    assert native.library_path(tmp_path).name == "libruvq.so"
    (tmp_path / "libruvq-dotprod.so").touch()
    assert native.library_path(tmp_path).name == "libruvq-dotprod.so"
    monkeypatch.setattr(native, "_has_dot_products", lambda: False)
    assert native.library_path(tmp_path).name == "libruvq.so"
    monkeypatch.setenv("RUVQ_LIBRARY", str(tmp_path / "other.so"))
    assert native.library_path(tmp_path).name == "other.so"
