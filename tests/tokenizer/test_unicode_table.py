"""The committed table of character classes is what its generator says, whatever Python runs the test."""

from __future__ import annotations

import importlib.util
import re
import sys
import unicodedata
from pathlib import Path
from types import ModuleType

import pytest

NAMES = {1: "L", 2: "N", 3: "P"}


@pytest.fixture(scope="module")
def generator(repository: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "generate_unicode", repository / "build" / "generate_unicode.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def committed(generator: ModuleType) -> list[tuple[int, int]]:
    """(first code point, class) of the table in the header."""
    text = generator.TABLE.read_text(encoding="utf-8")
    numbers = [int(n) for n in re.findall(r"\b\d+(?=,)", text.split("{\n", 1)[1].split("};")[0])]
    return [(n >> generator.CLASS_BITS, n & ((1 << generator.CLASS_BITS) - 1)) for n in numbers]


def test_the_table_is_the_generators_where_python_has_its_unicode_version(generator: ModuleType) -> None:
    same = unicodedata.unidata_version == generator.VERSION
    assert generator.TABLE.read_text(encoding="utf-8").count(generator.VERSION) == 2
    assert (generator.render() == generator.TABLE.read_text(encoding="utf-8")) == same


def test_other_unicode_versions_only_add_characters(generator: ModuleType) -> None:
    """Holds for newer Pythons too: every letter, number and mark of the table is one today."""
    table = committed(generator)
    assert len(table) > 1000
    assert table[0][0] == 0
    ends = [first for first, _ in table[1:]] + [sys.maxunicode + 1]
    wrong = [
        code_point
        for (first, found), end in zip(table, ends, strict=True)
        for code_point in range(first, end)
        if found in NAMES and unicodedata.category(chr(code_point))[0] != NAMES[found]
    ]
    assert wrong == []
