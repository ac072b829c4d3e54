"""Puts what a measurement printed between two markers of a documentation page."""

from __future__ import annotations

from pathlib import Path


def insert(page: Path, name: str, content: str) -> None:
    """Replaces what stands between `<!-- name: begin -->` and `<!-- name: end -->`; SystemExit without."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    text = page.read_text(encoding="utf-8")
    if text.count(begin) != 1 or text.count(end) != 1:
        raise SystemExit(f"{page} has no place for it: {begin} and {end}")
    before, rest = text.split(begin)
    after = rest.split(end)[1]
    temporary = page.with_suffix(".tmp")
    temporary.write_text(f"{before}{begin}\n{content}\n{end}{after}", encoding="utf-8")
    temporary.replace(page)
