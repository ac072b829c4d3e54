"""Writing, as a person does it: by keyboard, with own files and addresses, stopped and begun again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from site_page import await_state, await_text, watched, written

from browser import serving


def load_address(page: Any, address: str) -> None:
    page.click("nav a[href='#models']")
    page.fill("#url", address)
    page.press("#url", "Enter")


def test_the_same_seed_writes_the_same_text_and_anew_another(page: Any) -> None:
    page.fill("#max-tokens", "20")
    page.fill("#seed", "3")
    texts = []
    for button in ("#run", "#again"):
        page.click(button)
        await_state(page, "ready")
        texts.append(written(page))
    assert texts[0] == texts[1] != ""
    page.fill("#seed", "4")
    page.click("#again")
    await_state(page, "ready")
    assert written(page) != texts[0]


def test_a_stop_text_and_the_settings_are_kept(page: Any) -> None:
    page.fill("#stop-text", ".")
    page.fill("#seed", "1")
    page.press("#seed", "Tab")
    page.click("#run")
    await_text(page, "#status", "Done")
    assert "." not in written(page)
    page.reload()
    await_state(page, "ready")
    assert page.input_value("#stop-text") == "."
    page.click("#settings-reset")
    assert page.input_value("#stop-text") == ""


def test_the_text_is_copied(browser: Any, page: Any) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.fill("#max-tokens", "10")
    page.click("#run")
    await_text(page, "#status", "Done")
    page.click("#copy")
    await_text(page, "#copy", "Copied")
    assert page.evaluate("navigator.clipboard.readText()") == page.evaluate(
        "document.getElementById('output').textContent"
    )


def test_a_file_from_disk(page: Any, small_model: Path) -> None:
    page.click("nav a[href='#models']")
    page.set_input_files("#file", str(small_model))
    page.wait_for_function("document.getElementById('now-facts').textContent.startsWith('pi-q3')")
    first = page.inner_text("#library li:nth-child(1)")
    assert "small.gguf" in first
    assert "in use" in first
    assert "on your disk" in first
    page.click("#library li:nth-child(1) >> text=Write with it")
    page.fill("#max-tokens", "10")
    page.click("#run")
    await_text(page, "#status", "Done")
    assert written(page)


@pytest.fixture
def faulty(browser: Any, site_path: Path) -> Iterator[Any]:
    """A page of a site that can misbehave, and its address."""
    with serving(site_path) as url, watched(browser, f"{url}/") as page:
        page.at = url
        yield page


def test_an_error_says_expected_found_and_what_to_do(faulty: Any) -> None:
    load_address(faulty, f"{faulty.at}/index.html")
    await_state(faulty, "failed")
    assert f"{faulty.at}/index.html" in faulty.inner_text("#error-summary")
    assert "GGUF" in faulty.inner_text("#error-expected")
    assert "web page" in faulty.inner_text("#error-actual")
    assert faulty.inner_text("#error-hint")
    faulty.locator("#library li").filter(has_text="stories pi-t3").get_by_role("button", name="Load").click()
    await_state(faulty, "ready")
    assert not faulty.is_visible("#error")


def test_loading_can_be_stopped_and_shows_bytes(faulty: Any, repository: Path) -> None:
    size = (repository / "out" / "models" / "stories-pi-t3.gguf").stat().st_size
    load_address(faulty, f"{faulty.at}/fault/slow?file=models/stories-pi-t3.gguf")
    faulty.wait_for_function("document.getElementById('progress').value > 0.2")
    shown = re.fullmatch(r"Downloading: [\d.]+ [kM]B of ([\d.]+) MB", faulty.inner_text("#status"))
    assert shown
    assert shown[1] == f"{size / 1e6:.1f}"
    faulty.keyboard.press("Escape")
    await_state(faulty, "failed")
    assert faulty.inner_text("#status") == "Loading was stopped"
