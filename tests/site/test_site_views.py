"""Every view, in both themes, on a phone and on a desk: axe finds nothing serious, nothing needs sideways
scrolling, and the keyboard reaches all of it."""

from __future__ import annotations

from typing import Any

import pytest
from site_page import watched

from browser import ROOT

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
VIEWS = ("write", "chat", "models", "quantize", "benchmark", "python")
SIZES = {"phone": {"width": 360, "height": 740}, "desk": {"width": 1280, "height": 800}}
SERIOUS = """async () => (await axe.run(document, { resultTypes: ["violations"] })).violations
  .filter((v) => v.impact === "serious" || v.impact === "critical")
  .map((v) => `${v.id}: ${v.nodes.map((n) => n.target + " " + n.failureSummary).join("; ")}`)"""


def look_at(page: Any, view: str) -> None:
    page.evaluate("(hash) => { location.hash = hash; }", f"#{view}")
    page.wait_for_selector(f"#view-{view}:not([hidden])")
    if view == "python":
        page.wait_for_function("document.getElementById('cell').value !== ''")
    if view == "quantize":
        page.wait_for_selector("#formats input")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_every_view_is_accessible_and_fits(browser: Any, site: str, size: str, scheme: str) -> None:
    options = {"viewport": SIZES[size], "color_scheme": scheme, "reduced_motion": "reduce"}
    with watched(browser, f"{site}/", **options) as page:
        page.add_script_tag(path=AXE)
        page.fill("#max-tokens", "20")
        page.click("#run")
        page.wait_for_function("document.getElementById('status').textContent.startsWith('Done')")
        for view in VIEWS:
            look_at(page, view)
            assert page.evaluate(SERIOUS) == [], view
            assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["width"], view
            small = page.evaluate(
                """() => [...document.querySelectorAll("button, select, .button, nav a, input[type=number]")]
                  .filter((e) => e.offsetParent && e.offsetHeight < 40).map((e) => e.outerHTML)"""
            )
            assert small == [], view  # what a finger has to hit is large enough


def test_an_error_and_results_are_accessible_too(page: Any, site: str) -> None:
    page.add_script_tag(path=AXE)
    look_at(page, "benchmark")
    page.select_option("#bench-size", "128")
    page.select_option("#bench-rounds", "3")
    page.click("#bench-run")
    page.wait_for_function("document.getElementById('bench-status').textContent.startsWith('Done')")
    assert page.evaluate(SERIOUS) == []
    look_at(page, "models")
    page.fill("#url", f"{site}/index.html")
    page.press("#url", "Enter")
    page.wait_for_selector("#error:not([hidden])")
    assert page.evaluate(SERIOUS) == []


def test_views_are_reached_by_keyboard_and_say_their_names(page: Any) -> None:
    for view in VIEWS:
        page.focus(f"nav a[href='#{view}']")
        page.keyboard.press("Enter")
        page.wait_for_selector(f"#view-{view}:not([hidden])")
        assert page.evaluate("document.activeElement.id") == f"{view}-heading"
        assert page.get_attribute(f"nav a[href='#{view}']", "aria-current") == "page"
        assert page.title().lower().startswith(view)
    page.go_back()
    page.wait_for_selector("#view-benchmark:not([hidden])")


def test_the_first_tab_stop_skips_to_the_content(page: Any) -> None:
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    assert page.is_visible("#view-write")


def test_every_control_has_a_name(page: Any) -> None:
    for view in VIEWS:
        look_at(page, view)
        nameless = page.evaluate(
            """() => [...document.querySelectorAll("input, select, textarea, button")]
              .filter((e) => e.offsetParent && !(e.labels?.length || e.getAttribute("aria-label")
                || e.getAttribute("aria-labelledby") || e.textContent.trim())).map((e) => e.outerHTML)"""
        )
        assert nameless == [], view


def test_the_theme_is_kept(page: Any) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.click("#theme")
    page.click("#theme")
    assert page.inner_text("#theme") == "Theme: dark"
    dark = page.evaluate(ground)
    page.reload()
    assert page.evaluate(ground) == dark != light


def test_a_model_without_a_template_does_not_pretend_to_chat(page: Any) -> None:
    look_at(page, "chat")
    page.wait_for_selector("#chat-none:not([hidden])")
    assert not page.is_visible("#chat-input")
    page.click("#chat-none >> text=Write with it instead")
    assert page.is_visible("#prompt")
