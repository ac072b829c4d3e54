"""The page's Python host: the same page, the same text, run by Pyodide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from site_page import PYTHON_MS, await_state, await_text, written
from test_site_both import STOP_AT_TEXT


def write(page: Any, seed: int, tokens: int = 40) -> str:
    page.fill("#seed", str(seed))
    page.fill("#max-tokens", str(tokens))
    page.click("#run")
    await_text(page, "#status", "Done")
    return written(page)


@pytest.fixture(scope="module")
def python_page(lasting: Any) -> Any:
    """The page switched to Python; `javascript_text` is what JavaScript wrote before."""
    lasting.javascript_ready = lasting.inner_text("#status")  # it says how many threads
    lasting.javascript_text = write(lasting, seed=4)
    lasting.check("input[name=host][value=pyodide]")
    await_state(lasting, "loading")
    await_state(lasting, "ready", PYTHON_MS)
    lasting.python_ready = lasting.inner_text("#status")
    return lasting


def test_python_has_the_threads_that_javascript_has(python_page: Any) -> None:
    assert python_page.python_ready.startswith("Ready")
    assert python_page.python_ready == python_page.javascript_ready


def test_python_writes_what_javascript_writes(python_page: Any) -> None:
    assert python_page.javascript_text
    assert write(python_page, seed=4) == python_page.javascript_text
    assert "await ruvq.Model.fetch" in python_page.evaluate("document.getElementById('code').textContent")
    assert python_page.inner_text("#now-facts").startswith("pi-t2")
    assert float(python_page.inner_text("#stat-speed")) > 0
    assert python_page.inner_text("#stat-tokens").startswith("40 ")


CHOOSE_BEFORE = """new MutationObserver(() => {
  const choice = document.querySelector("input[name=host][value=pyodide]");
  if (choice) choice.checked = true;
}).observe(document, { subtree: true, childList: true });"""


def test_a_choice_that_the_browser_kept_holds(browser: Any, site: str) -> None:
    context = browser.new_context()
    try:
        page = context.new_page()
        page.add_init_script(CHOOSE_BEFORE)
        page.goto(site)
        await_text(page, "#status", "Starting Python")
    finally:
        context.close()


def test_python_stops_and_keeps_the_text(python_page: Any) -> None:
    python_page.fill("#max-tokens", "450")
    python_page.evaluate(STOP_AT_TEXT, "button")
    python_page.click("#run")
    await_text(python_page, "#status", "Stopped")
    assert written(python_page)
    assert int(python_page.inner_text("#stat-tokens").split()[0]) < 450


def test_python_opens_a_file_from_disk(python_page: Any, small_model: Path) -> None:
    python_page.click("nav a[href='#models']")
    python_page.set_input_files("#file", str(small_model))
    python_page.wait_for_function(
        "document.getElementById('now-facts').textContent.startsWith('pi-q3')", timeout=PYTHON_MS
    )
    python_page.click("nav a[href='#write']")
    assert write(python_page, seed=1)


def test_python_shows_errors_as_javascript_does(python_page: Any, site: str) -> None:
    python_page.click("nav a[href='#models']")
    python_page.fill("#url", f"{site}/index.html")
    python_page.press("#url", "Enter")
    await_state(python_page, "failed", PYTHON_MS)
    assert "got HTML instead of a model" in python_page.inner_text("#error-summary")
    assert "GGUF" in python_page.inner_text("#error-expected")
    assert python_page.inner_text("#error-hint")
