"""The profile of a token and the roofline as Markdown tables, and the place in a document they go to."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "| --- |" + " ---: |" * (len(heads) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def roofline(results: list[dict[str, Any]]) -> str:
    """One line a model and host."""
    heads = [
        "model, host",
        "bits",
        "MB a token",
        "reading GB/s",
        "reading",
        "products from cache",
        "measured",
        "share",
    ]
    rows = []
    for r in results:
        limits = r["roofline_tokens_per_s"]
        lowest = min(limits["reading"], limits["products_from_cache"])
        rows.append(
            [
                f"{r['model']}, {r['host']}",
                f"{r['bits_per_weight']:.2f}",
                f"{r['bytes_per_token'] / 1e6:.1f}",
                f"{r['read_bytes_per_s'] / 1e9:.1f}",
                *(f"{limits[key]:.1f}" for key in ("reading", "products_from_cache", "measured")),
                f"{100 * limits['measured'] / lowest:.0f} %",
            ]
        )
    return _table(heads, rows)


def profile(result: dict[str, Any]) -> str:
    """One model on one host: its pieces."""
    token = result["token_s"]
    rows = []
    for kind, e in result["kinds"].items():
        numbers = [f"{1e6 * e['seconds']:.0f}", f"{100 * e['share']:.1f} %", f"{e['bytes'] / 1e6:.2f}"]
        # a browser's clock may give a very short piece no time at all
        speed = f"{e['bytes'] / e['seconds'] / 1e9:.2f}" if e["seconds"] else "-"
        rows.append([kind, *numbers, speed, f"{e['operations_per_byte']:.2f}"])
    for piece, seconds in result["pieces_s"].items():
        if seconds is not None:
            rows.append([piece, f"{1e6 * seconds:.0f}", f"{100 * seconds / token:.1f} %", "", "", ""])
    rows.append(
        ["**token**", f"{1e6 * token:.0f}", "100 %", f"{result['bytes_per_token'] / 1e6:.2f}", "", ""]
    )
    title = f"{result['model']}, {result['host']}, one thread, after {result['context']} tokens"
    heads = ["piece", "us", "share", "MB read", "GB/s", "operations a byte"]
    return f"{title}:\n\n{_table(heads, rows)}"


def markdown(results: list[dict[str, Any]]) -> str:
    """Roofline first (tokens a second; the share is of the lower limit), then every profile."""
    note = "Tokens a second that each limit allows, and what was measured; the share is of the lower limit."
    return "\n\n".join(["Roofline. " + note, roofline(results), *map(profile, results)])


def write_between(path: Path, name: str, text: str) -> None:
    """Replaces what stands between `<!-- name -->` and `<!-- /name -->`; appends both where they are not."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    old = path.read_text() if path.exists() else "# Performance\n"
    if begin not in old or end not in old:
        old = f"{old.rstrip()}\n\n{begin}\n{end}\n"
    before, rest = old.split(begin, 1)
    after = rest.split(end, 1)[1]
    part = path.with_name(path.name + ".part")
    part.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")
    part.replace(path)
