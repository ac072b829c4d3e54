"""The benchmark of the page: every format that can be written, as a table, as Markdown and as JSON."""

from __future__ import annotations

import json
from typing import Any

from site_page import await_text

from ruvq import formats

FIRST_OF_DESKTOP = formats.get("q4_0").id  # encoders of ggml's formats are not in the modules of pages


def test_every_format_is_measured_and_can_be_shared(browser: Any, page: Any) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate("location.hash = '#benchmark'")
    page.select_option("#bench-size", "128")
    page.select_option("#bench-rounds", "3")
    page.click("#bench-run")
    await_text(page, "#bench-status", "Done")
    page.click("#bench-json")
    await_text(page, "#bench-json", "Copied")
    result = json.loads(page.evaluate("navigator.clipboard.readText()"))
    names = [row["format"] for row in result["rows"]]
    of_pages = [f for f in formats.all_formats() if f.own or f.id < FIRST_OF_DESKTOP]
    assert names == [f.name for f in of_pages if f.writable]
    for row in result["rows"]:
        entry = formats.get(row["format"])
        assert row["bits_per_weight"] == entry.bits_per_weight(1024)
        speeds = [row[f"{what}_mweights_per_s"] for what in ("encode", "decode", "matvec")]
        assert all(speed > 0 for speed in speeds)
    exact = {row["format"]: row["snr_db"] for row in result["rows"]}
    assert exact["f32"] is None
    assert exact["pi-t3"] > exact["pi-q3"] > exact["pi-t2"]
    assert result["device"]["engine"] in ("relaxed-simd", "simd128")
    page.click("#bench-markdown")
    await_text(page, "#bench-markdown", "Copied")
    lines = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert lines[0].startswith("| Format | Bits per weight |")
    assert len(lines) == 2 + len(names) + 2
    assert page.locator("#bench-table tbody tr").count() == len(names)


def test_measuring_stops(page: Any) -> None:
    page.evaluate("location.hash = '#benchmark'")
    page.select_option("#bench-size", "2048")
    page.click("#bench-run")
    await_text(page, "#bench-status", "Measuring")
    page.click("#bench-stop")
    assert page.inner_text("#bench-status") == "Stopped"
    assert page.is_enabled("#bench-run")
