"""The demo page as a person uses it: by keyboard, with own files and addresses, on a phone's width."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PHONE = {"width": 375, "height": 740}


def await_state(page: Any, state: str) -> None:
    page.wait_for_function("(s) => document.body.dataset.state === s", arg=state, timeout=30_000)


def written(page: Any) -> str:
    return page.evaluate("document.getElementById('output').lastChild?.textContent ?? ''")


@pytest.fixture
def demo(browser: Any, site: str) -> Iterator[Any]:
    """The page with its default model loaded; fails when anything was logged as an error."""
    context = browser.new_context()
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.goto(f"{site}/")
    await_state(page, "ready")
    yield page
    context.close()
    assert problems == []


def test_it_writes_by_keyboard_alone(demo: Any) -> None:
    demo.focus("#prompt")
    demo.keyboard.press("Control+A")
    demo.keyboard.type("One day, a dog")
    demo.keyboard.press("Tab")
    demo.keyboard.type("30")
    demo.keyboard.press("Control+Enter")
    demo.wait_for_function("document.getElementById('status').textContent.startsWith('Done')")
    assert written(demo)
    assert demo.inner_text("#output").startswith("One day, a dog")
    assert demo.inner_text("#stat-tokens").startswith("30 ")
    assert float(demo.inner_text("#stat-speed")) > 0
    assert demo.inner_text("#stat-first").endswith("ms")
    assert demo.inner_text("#stat-memory").endswith("B")


def test_every_control_is_reached_by_tab_and_has_a_name(demo: Any) -> None:
    demo.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(12):
        demo.keyboard.press("Tab")
        reached.append(
            demo.evaluate(
                """() => { const e = document.activeElement;
                return [e.id || e.name, (e.labels?.length ?? 0) > 0 || Boolean(e.getAttribute("aria-label")
                  || e.getAttribute("aria-labelledby") || e.textContent.trim())]; }"""
            )
        )
    names = [name for name, _ in reached]
    for control in ("model", "host", "prompt", "max-tokens", "temperature", "seed", "run", "output", "code"):
        assert control in names
    assert all(named for name, named in reached if name)


@pytest.mark.parametrize("way", ["Escape", "button"])
def test_stopping_keeps_the_text(demo: Any, way: str) -> None:
    demo.fill("#max-tokens", "500")
    demo.fill("#temperature", "0")
    # stops as soon as there is text, from inside the page: the model is too fast for messages from outside
    demo.evaluate(
        """(way) => new MutationObserver((_, observer) => {
          if (!document.getElementById("output").lastChild?.textContent) return;
          observer.disconnect();
          if (way === "button") document.getElementById("stop").click();
          else document.dispatchEvent(new KeyboardEvent("keydown", { key: way, bubbles: true }));
        }).observe(document.getElementById("output"), { childList: true, subtree: true })""",
        way,
    )
    demo.click("#run")
    demo.wait_for_function("document.getElementById('status').textContent === 'Stopped'")
    assert written(demo)
    assert int(demo.inner_text("#stat-tokens").split()[0]) < 500
    assert demo.evaluate("document.body.dataset.state") == "ready"


def test_the_same_seed_writes_the_same_text(demo: Any) -> None:
    texts = []
    for _ in range(2):
        demo.fill("#seed", "3")
        demo.fill("#max-tokens", "20")
        demo.click("#run")
        await_state(demo, "ready")
        texts.append(written(demo))
    assert texts[0] == texts[1] != ""


def test_a_file_from_disk(demo: Any, models: Path) -> None:
    demo.select_option("#model", "file:")
    await_state(demo, "choosing")
    demo.set_input_files("#file", str(models / "pi-q3.gguf"))
    await_state(demo, "ready")
    assert demo.inner_text("#fact-format") == "pi-q3"
    demo.click("#run")
    demo.wait_for_function("document.getElementById('status').textContent.startsWith('Done')")
    assert written(demo)


def test_an_address(demo: Any, site: str) -> None:
    demo.select_option("#model", "url:")
    demo.fill("#url", f"{site}/models/f16.gguf")
    demo.press("#url", "Enter")
    await_state(demo, "ready")
    assert demo.inner_text("#fact-format") == "f16"
    assert demo.inner_text("#fact-parameters") == "260,032"


def test_an_error_says_expected_found_and_what_to_do(demo: Any, site: str) -> None:
    demo.select_option("#model", "url:")
    demo.fill("#url", f"{site}/blank.html")
    demo.click("#url-field button")
    await_state(demo, "failed")
    assert f"{site}/blank.html" in demo.inner_text("#error-summary")
    assert "GGUF" in demo.inner_text("#error-expected")
    assert "web page" in demo.inner_text("#error-actual")
    assert demo.inner_text("#error-hint")
    demo.select_option("#model", index=0)
    await_state(demo, "ready")
    assert not demo.is_visible("#error")


def test_loading_can_be_stopped_and_begun_again(demo: Any, site: str) -> None:
    demo.select_option("#model", "url:")
    demo.fill("#url", f"{site}/fault/slow?file=models/f32.gguf")
    demo.press("#url", "Enter")
    demo.wait_for_function("document.getElementById('status').textContent.startsWith('Downloading')")
    demo.keyboard.press("Escape")
    await_state(demo, "failed")
    assert demo.inner_text("#status") == "Loading was stopped"
    demo.select_option("#model", index=0)
    await_state(demo, "ready")


def test_progress_is_shown_in_bytes(demo: Any, site: str) -> None:
    demo.select_option("#model", "url:")
    demo.fill("#url", f"{site}/fault/slow?file=models/f32.gguf")
    demo.press("#url", "Enter")
    demo.wait_for_function("document.getElementById('progress').value > 0.2")
    assert re.fullmatch(r"Downloading: 26\d\.\d kB of 1\.1 MB", demo.inner_text("#status"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling(browser: Any, site: str, scheme: str) -> None:
    context = browser.new_context(viewport=PHONE, color_scheme=scheme)
    page = context.new_page()
    page.goto(f"{site}/")
    await_state(page, "ready")
    page.select_option("#model", "url:")
    page.fill("#url", f"{site}/blank.html")
    page.click("#url-field button")
    await_state(page, "failed")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    # what a finger has to hit is large enough
    heights = page.evaluate(
        """() => [...document.querySelectorAll("button, select, input[type=number]")]
          .filter((e) => e.offsetParent).map((e) => e.offsetHeight)"""
    )
    assert min(heights) >= 40
    # text stands out from its ground: WCAG's 4.5 to 1
    assert page.evaluate(CONTRAST) >= 4.5
    context.close()


CONTRAST = """() => {
  const channels = (color) => color.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const luminance = (color) => channels(color).map((c) => c / 255)
    .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const color = getComputedStyle(e).backgroundColor;
      if (!/, 0\\)$/.test(color) && color !== "transparent") return color;
    }
    return "rgb(255, 255, 255)";
  };
  const texts = [...document.querySelectorAll("h1, h2, p, label, legend, dt, dd, pre, button, .keys")];
  const ratios = texts
    .filter((e) => e.offsetParent && !e.disabled && e.textContent.trim())
    .map((e) => [luminance(getComputedStyle(e).color), luminance(ground(e))].sort((a, b) => b - a))
    .map(([light, dark]) => (light + 0.05) / (dark + 0.05));
  return Math.min(...ratios);
}"""


def test_without_python_on_the_site_the_python_host_says_so(demo: Any) -> None:
    demo.check("input[name=host][value=pyodide]")
    await_state(demo, "failed")
    assert "Python could not be started" in demo.inner_text("#error-summary")
    assert "make demo" in demo.inner_text("#error-hint")
    demo.check("input[name=host][value=javascript]")
    await_state(demo, "ready")
