"""The chat view with a model whose file has a template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from site_page import PYTHON_MS, await_state, await_text


@pytest.fixture(scope="module")
def talking(lasting: Any, chat_model: Path) -> Any:
    """The page at its view, with a model that has a template."""
    lasting.set_input_files("#file", str(chat_model))
    lasting.wait_for_function("document.getElementById('now-facts').textContent.startsWith('pi-q3')")
    lasting.fill("#max-tokens", "15")
    lasting.evaluate("location.hash = '#chat'")
    lasting.wait_for_selector("#chat-send:enabled")
    return lasting


def bubbles(page: Any) -> list[str]:
    return page.locator("#chat-log .said").all_inner_texts()


def send(page: Any, text: str) -> None:
    page.fill("#chat-input", text)
    page.press("#chat-input", "Enter")
    await_text(page, "#status", "Done")
    await_state(page, "ready")


def test_it_answers_and_goes_on(talking: Any) -> None:
    talking.fill("#seed", "2")
    send(talking, "Tell me a story")
    first = bubbles(talking)
    assert first[0] == "Tell me a story"
    assert first[1]
    send(talking, "And then?")
    assert bubbles(talking)[:2] == first
    assert len(bubbles(talking)) == 4


def test_another_answer_takes_the_place_of_the_last(talking: Any) -> None:
    before = bubbles(talking)
    talking.fill("#seed", "3")
    talking.click("#chat-again")
    talking.wait_for_function(
        """(old) => {
          const all = document.querySelectorAll('#chat-log .said');
          return document.body.dataset.state === 'ready' && all.length === 4 && all[3].textContent !== old;
        }""",
        arg=before[3],
    )
    assert bubbles(talking)[:3] == before[:3]


def test_a_new_chat_is_empty(talking: Any) -> None:
    talking.click("#chat-new")
    assert bubbles(talking) == []
    assert talking.evaluate("document.activeElement.id") == "chat-input"


def test_python_answers_the_same(talking: Any) -> None:
    talking.fill("#seed", "5")
    send(talking, "Hello")
    answer = bubbles(talking)
    talking.click("#chat-new")
    talking.check("input[name=host][value=pyodide]")
    talking.wait_for_selector("#chat-send:enabled", timeout=PYTHON_MS)
    send(talking, "Hello")
    assert bubbles(talking) == answer
