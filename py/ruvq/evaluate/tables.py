"""Tables of figures as aligned text or as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from ..quantize.plan import format_table


def render(rows: Sequence[tuple[str, ...]], markdown: bool, right_from: int) -> str:
    """The first row is the head; columns from `right_from` on are numbers."""
    if not markdown:
        return format_table(rows, right_from)
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + " --- |" * len(rows[0]))
    return "\n".join(lines)
