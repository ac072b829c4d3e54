"""Firefox ESR for tests, by WebDriver BiDi: a page with those methods of Playwright's that tests share."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).resolve().parent / "firefox.mjs"
SHOWN = """(selector) => [...document.querySelectorAll(selector)].some((e) => e.checkVisibility())"""
SHORT_MS = 60_000


class FirefoxError(Exception):
    """What Firefox or the page said."""


class Keyboard:
    """Keys go to the element that has the focus."""

    def __init__(self, page: FirefoxPage) -> None:
        self._page = page

    def press(self, key: str) -> None:
        self._page.call("press", key)

    def type(self, text: str) -> None:
        self._page.call("type", text)


class FirefoxPage:
    """The methods mean what they mean in Playwright; selectors are CSS, with " >> text=" for a text below."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.keyboard = Keyboard(self)

    def call(self, name: str, *args: Any) -> Any:
        """A command of firefox.mjs."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"name": name, "args": args}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": "Firefox's driver ended"}
        if "error" in answer:
            raise FirefoxError(answer["error"])
        return answer["value"]

    def goto(self, url: str) -> None:
        self.call("goto", url)

    def reload(self) -> None:
        self.call("reload")

    def evaluate(self, source: str, arg: Any = None) -> Any:
        return self.call("evaluate", source, arg)

    def click(self, selector: str) -> None:
        self.call("click", _puppeteer(selector))

    def fill(self, selector: str, text: str) -> None:
        self.call("fill", selector, text)

    def check(self, selector: str) -> None:
        if not self.evaluate("(s) => document.querySelector(s).checked", selector):
            self.click(selector)

    def focus(self, selector: str) -> None:
        self.evaluate("(s) => document.querySelector(s).focus()", selector)

    def press(self, selector: str, key: str) -> None:
        self.focus(selector)
        self.keyboard.press(key)

    def set_input_files(self, selector: str, paths: str | Sequence[str]) -> None:
        self.call("upload", selector, [paths] if isinstance(paths, str) else list(paths))

    def inner_text(self, selector: str) -> str:
        return str(self.evaluate("(s) => document.querySelector(s).innerText", selector))

    def get_attribute(self, selector: str, name: str) -> str | None:
        return self.evaluate("([s, name]) => document.querySelector(s).getAttribute(name)", [selector, name])

    def is_visible(self, selector: str) -> bool:
        return bool(self.evaluate(SHOWN, selector))

    def wait_for_function(self, source: str, arg: Any = None, timeout: int = SHORT_MS) -> None:
        end = time.monotonic() + timeout / 1000
        while not self.evaluate(source, arg):
            if time.monotonic() > end:
                raise FirefoxError(f"waited {timeout} ms for {source} of {arg}")
            time.sleep(0.05)

    def wait_for_selector(self, selector: str, timeout: int = SHORT_MS) -> None:
        self.wait_for_function(SHOWN, selector, timeout)


def _puppeteer(selector: str) -> str:
    before, found, text = selector.partition(" >> text=")
    return f"{before} ::-p-text({text})" if found else selector


@contextmanager
def firefox_page() -> Iterator[FirefoxPage]:
    """A page of a Firefox of its own."""
    words = ["node", str(SCRIPT)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        page = FirefoxPage(process)
        try:
            version = page.call("version")
            assert version.startswith("firefox/"), version
            yield page
        finally:
            assert process.stdin
            process.stdin.close()  # ends the browser
            process.wait(timeout=60)
