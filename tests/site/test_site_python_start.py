"""How the site starts Pyodide: from a snapshot of its booted memory, and without one where there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from site_page import PYTHON_MS, await_state, await_text

DRAW = "import random\nprint(random.random())"
PLAIN = {
    "missing": lambda route: route.fulfill(status=404, body="not here"),
    "damaged": lambda route: route.fulfill(body=b"this is no gzip"),
    "cut off": lambda route: route.fulfill(body=b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xec"),
}


class Opened:
    """A page that ran a program: what it printed, and whether Pyodide booted the long way."""

    def __init__(self, browser: Any, site: str, answer: Callable[[Any], None] | None = None) -> None:
        context = browser.new_context()
        try:
            if answer:
                context.route("**/snapshot.bin", answer)
            asked: list[str] = []
            context.on("request", lambda request: asked.append(request.url.rsplit("/", 1)[-1]))
            page = context.new_page()
            page.goto(f"{site}/#python")
            await_state(page, "ready")
            page.wait_for_function("document.getElementById('cell').value !== ''")
            page.fill("#cell", DRAW)
            page.click("#cell-run")
            await_text(page, "#cell-status", "Done", PYTHON_MS)
            self.output = page.evaluate("document.getElementById('cell-output').textContent")
            self.asked = asked
        finally:
            context.close()


def test_python_starts_from_the_snapshot_and_draws_numbers_of_its_own(browser: Any, site: str) -> None:
    first, second = Opened(browser, site), Opened(browser, site)
    assert "snapshot.bin" in first.asked
    assert not [name for name in first.asked if name.startswith("micropip")]
    assert 0 <= float(first.output) < 1
    assert first.output != second.output


@pytest.mark.slow
@pytest.mark.parametrize("answer", PLAIN.values(), ids=PLAIN)
def test_python_starts_without_a_usable_snapshot(
    browser: Any, site: str, answer: Callable[[Any], None]
) -> None:
    assert 0 <= float(Opened(browser, site, answer).output) < 1
