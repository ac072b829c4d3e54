"""Tables go between their markers, and nowhere else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "build"))

from pages import insert


def test_a_table_replaces_what_stood_between_its_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb <!-- y: begin --><!-- y: end -->\n")
    insert(page, "x", "new\nlines")
    assert page.read_text() == (
        "a\n<!-- x: begin -->\nnew\nlines\n<!-- x: end -->\nb <!-- y: begin --><!-- y: end -->\n"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["page.md"]


@pytest.mark.parametrize(
    "text", ["no markers", "<!-- x: begin --> only", "<!-- x: begin --><!-- x: end -->" * 2]
)
def test_a_page_without_its_place_is_left_alone(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(SystemExit, match="no place"):
        insert(page, "x", "new")
    assert page.read_text() == text


def test_every_page_of_the_quality_tables_has_a_place_for_them(repository: Path) -> None:
    from quality_tables import TABLES
    from quant_table import MARKER

    for name, (page, _) in {**TABLES, MARKER: ("formats.md", None)}.items():
        text = (repository / "docs" / page).read_text(encoding="utf-8")
        assert text.count(f"<!-- {name}: begin -->") == text.count(f"<!-- {name}: end -->") == 1
