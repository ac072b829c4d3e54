"""What a person does first, in Chromium and in Firefox: write, stop, chat, look after models, quantize."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from site_page import PYTHON_MS, await_text, written

from chat.chat_models import write_chat_model

STOP_AT_TEXT = """(way) => new MutationObserver((_, observer) => {
  if (!document.getElementById("output").lastChild?.textContent) return;
  observer.disconnect();
  if (way === "button") document.getElementById("stop").click();
  else document.dispatchEvent(new KeyboardEvent("keydown", { key: way, bubbles: true }));
}).observe(document.getElementById("output"), { childList: true, subtree: true })"""


def test_it_writes_by_keyboard_alone(either: Any) -> None:
    either.focus("#prompt")
    either.keyboard.press("Control+A")
    either.keyboard.type("One day, a dog")
    either.focus("#max-tokens")
    either.keyboard.press("Control+A")
    either.keyboard.type("30")
    either.keyboard.press("Control+Enter")
    await_text(either, "#status", "Done")
    assert written(either)
    assert either.inner_text("#output").startswith("One day, a dog")
    assert either.inner_text("#stat-tokens").startswith("30 ")
    assert float(either.inner_text("#stat-speed")) > 0
    assert either.inner_text("#stat-first").endswith("s")
    assert either.inner_text("#stat-memory").endswith("B")
    assert "first token after" in either.get_attribute("#meter svg", "aria-label")


@pytest.mark.parametrize("way", ["Escape", "button"])
def test_stopping_keeps_the_text(either: Any, way: str) -> None:
    either.fill("#max-tokens", "500")
    either.fill("#temperature", "0")
    # stops as soon as there is text, from inside the page: the model is too fast for messages from outside
    either.evaluate(STOP_AT_TEXT, way)
    either.click("#run")
    await_text(either, "#status", "Stopped")
    assert written(either)
    assert int(either.inner_text("#stat-tokens").split()[0]) < 500
    assert either.evaluate("document.body.dataset.state") == "ready"


def test_another_model_of_the_site_is_loaded_kept_verified_and_deleted(either: Any) -> None:
    either.click("nav a[href='#models']")
    names = either.evaluate("[...document.querySelectorAll('#library li')].map((li) => li.innerText)")
    assert any("stories pi-t2" in name for name in names)
    either.click("#library [aria-label='Load stories pi-t3']")
    either.wait_for_function("document.getElementById('now-facts').textContent.startsWith('pi-t3')")
    either.click("#library [aria-label='Verify stories pi-t3']")
    either.wait_for_function("document.getElementById('library').textContent.includes('whole, SHA-256')")
    either.click("#library [aria-label='Delete stories pi-t3']")
    either.wait_for_function("document.getElementById('library').textContent.includes('deleted from this')")


def test_it_chats(either: Any, chat_model: Path) -> None:
    either.set_input_files("#file", str(chat_model))
    either.wait_for_function("document.getElementById('now-facts').textContent.startsWith('pi-q3')")
    either.fill("#max-tokens", "15")
    either.evaluate("location.hash = '#chat'")
    either.wait_for_function("!document.getElementById('chat-send').disabled")
    either.fill("#chat-input", "Tell me a story")
    either.press("#chat-input", "Enter")
    await_text(either, "#status", "Done")
    said = either.evaluate("[...document.querySelectorAll('#chat-log .said')].map((e) => e.textContent)")
    assert said[0] == "Tell me a story"
    assert len(said) == 2
    assert said[1]


@pytest.mark.slow
def test_it_quantizes_a_small_model(either: Any, tmp_path: Path) -> None:
    folder = write_chat_model(tmp_path / "tiny")
    either.click("nav a[href='#quantize']")
    either.wait_for_selector("#formats input")
    either.check("input[name=source][value=own]")
    either.set_input_files("#source-files", [str(path) for path in folder.iterdir()])
    either.wait_for_function("document.getElementById('source-list').children.length === 4")
    either.click("#quantize-run")
    await_text(either, "#quantize-status", "Done", PYTHON_MS)
    rows = either.evaluate("[...document.querySelectorAll('#results tr')].map((tr) => tr.innerText)")
    assert [row.split()[0] for row in rows] == ["pi-t3", "pi-t2"]
    either.click("#results [aria-label='Run model-pi-t3.gguf']")
    either.wait_for_function("document.getElementById('now-name').textContent === 'model-pi-t3.gguf'")
    either.wait_for_function("document.body.dataset.state === 'ready'")
    either.fill("#max-tokens", "5")
    either.click("#run")
    await_text(either, "#status", "Done")
