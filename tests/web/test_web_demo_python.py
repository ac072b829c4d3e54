"""The demo page's Python host: the same page, the same text, run by Pyodide."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_web_demo import await_state, written

from browser import serving

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "build"))

BOOT_MS = 120_000


@pytest.fixture(scope="module")
def python_demo(browser: Any, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A whole site's page, switched to Python; `page.javascript_text` is what JavaScript wrote before."""
    import site_folder

    folder = tmp_path_factory.mktemp("full-site")
    site_folder.assemble(folder, [models / "pi-t3.gguf", models / "pi-t2.gguf"])
    with serving(folder) as url:
        context = browser.new_context()
        page = context.new_page()
        page.addresses = []
        context.on("request", lambda request: page.addresses.append(request.url))
        page.goto(f"{url}/")
        await_state(page, "ready")
        page.javascript_text = write(page, seed=4)
        page.check("input[name=host][value=pyodide]")
        page.wait_for_function("document.body.dataset.state === 'ready'", timeout=BOOT_MS)
        yield page
        context.close()


def write(page: Any, seed: int, tokens: int = 40) -> str:
    page.fill("#seed", str(seed))
    page.fill("#max-tokens", str(tokens))
    page.click("#run")
    page.wait_for_function("document.getElementById('status').textContent.startsWith('Done')", timeout=30_000)
    return written(page)


def test_python_writes_what_javascript_writes(python_demo: Any) -> None:
    assert python_demo.javascript_text
    assert write(python_demo, seed=4) == python_demo.javascript_text
    assert "await ruvq.Model.fetch" in python_demo.inner_text("#code")
    assert python_demo.inner_text("#fact-format") == "pi-t3"
    assert float(python_demo.inner_text("#stat-speed")) > 0
    assert python_demo.inner_text("#stat-tokens").startswith("40 ")


def test_python_stops_and_keeps_the_text(python_demo: Any) -> None:
    python_demo.fill("#max-tokens", "450")
    python_demo.evaluate(
        """() => new MutationObserver((_, observer) => {
          if (!document.getElementById("output").lastChild?.textContent) return;
          observer.disconnect();
          document.getElementById("stop").click();
        }).observe(document.getElementById("output"), { childList: true, subtree: true })"""
    )
    python_demo.click("#run")
    python_demo.wait_for_function("document.getElementById('status').textContent === 'Stopped'")
    assert written(python_demo)
    assert int(python_demo.inner_text("#stat-tokens").split()[0]) < 450


def test_python_opens_a_file_from_disk(python_demo: Any, models: Path) -> None:
    python_demo.select_option("#model", "file:")
    python_demo.set_input_files("#file", str(models / "pi-q2.gguf"))
    python_demo.wait_for_function("document.body.dataset.state === 'ready'", timeout=BOOT_MS)
    assert python_demo.inner_text("#fact-format") == "pi-q2"
    assert write(python_demo, seed=1)


def test_python_shows_errors_as_javascript_does(python_demo: Any) -> None:
    python_demo.select_option("#model", "url:")
    python_demo.fill("#url", python_demo.url + "index.html")
    python_demo.click("#url-field button")
    python_demo.wait_for_function("document.body.dataset.state === 'failed'", timeout=BOOT_MS)
    assert "got HTML instead of a model" in python_demo.inner_text("#error-summary")
    assert "GGUF" in python_demo.inner_text("#error-expected")
    assert python_demo.inner_text("#error-hint")


def test_no_other_server_is_asked_for_anything(python_demo: Any) -> None:
    asked = python_demo.addresses
    assert any(address.endswith(".whl") for address in asked)
    assert any(address.endswith("pyodide.asm.wasm") for address in asked)
    assert [a for a in asked if not a.removeprefix("blob:").startswith((python_demo.url, "data:"))] == []
