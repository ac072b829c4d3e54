"""A page of the site for the tests, with the network off, and how to wait for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from firefox import FirefoxPage, firefox_page

FOREIGN = re.compile(r"^(?!http://127\.0\.0\.1:)(https?|wss?)://")
READY_MS = 60_000
PYTHON_MS = 240_000  # Pyodide's start on a busy machine


@contextmanager
def watched(browser: Any, address: str, **options: Any) -> Iterator[Any]:
    """A page of the site with the network off: at the end nothing may have been asked of another server, and
    no error logged."""
    context = browser.new_context(**options)
    page = context.new_page()
    page.problems = []
    context.route(FOREIGN, lambda route: route.abort())
    context.on("request", lambda request: _note_foreign(page.problems, request.url))
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda m: page.problems.append(m.text) if m.type == "error" else None)
    page.goto(address)
    await_state(page, "ready")
    try:
        yield page
        assert page.problems == []
    finally:
        context.close()


def _note_foreign(problems: list[str], address: str) -> None:
    if FOREIGN.match(address):
        problems.append(f"asked another server: {address}")


def await_state(page: Any, state: str, timeout: int = READY_MS) -> None:
    """Waits for the page's state; the reload for isolation leaves the page without a body for a while."""
    page.wait_for_function("(s) => document.body?.dataset.state === s", arg=state, timeout=timeout)


def await_text(page: Any, selector: str, start: str, timeout: int = READY_MS) -> None:
    """Waits until an element's text begins so."""
    page.wait_for_function(
        "([s, start]) => document.querySelector(s).textContent.startsWith(start)",
        arg=[selector, start],
        timeout=timeout,
    )


def written(page: Any) -> str:
    """What the model wrote last, without the prompt."""
    return page.evaluate("document.getElementById('output').lastChild?.textContent ?? ''")


@contextmanager
def watched_in_firefox(address: str) -> Iterator[FirefoxPage]:
    """The same in Firefox."""
    with firefox_page() as page:
        page.goto(address)
        await_state(page, "ready")
        yield page
        report = page.call("report")
        foreign = [url for url in report["requests"] if FOREIGN.match(url)]
        assert (report["problems"], foreign) == ([], [])
