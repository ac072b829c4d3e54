"""Gives the page the JavaScript that the wheel carries.

The wheel lies in Pyodide's file system, which a browser's module loader can't see. So every script becomes
a URL of its own (blob:), its relative imports replaced by the URLs of the scripts they name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ..errors import MissingDependencyError

# import ... from "./x.js", export ... from, import "./x.js", import("./x.js")
_IMPORT = re.compile(r"""\b((?:from|import)\s*\(?\s*)(["'])\./([\w.-]+\.js)\2""")


def _imports(text: str) -> Iterator[re.Match[str]]:
    """The imports of a script, but not those in a comment's line."""
    for match in _IMPORT.finditer(text):
        before = text[text.rfind("\n", 0, match.start()) + 1 : match.start()].lstrip()
        if not before.startswith(("//", "/*", "*")):
            yield match


def _linked(text: str, urls: Mapping[str, str]) -> str:
    """A script whose imports name URLs."""
    out, at = [], 0
    for m in _imports(text):
        out += [text[at : m.start()], m[1], m[2], urls[m[3]], m[2]]
        at = m.end()
    return "".join([*out, text[at:]])


def folder() -> Path:
    """Where the wheel carries the scripts and the module."""
    return Path(__file__).parent / "_web"


def link(names: list[str], read: Callable[[str], str], publish: Callable[[str], str]) -> dict[str, str]:
    """Publishes scripts and all that they import, each once and after those it imports.

    `read` gives a script's text by its name, `publish` the URL of a text. Returns name → URL.
    """
    urls: dict[str, str] = {}
    texts: dict[str, str] = {}  # of the scripts whose imports come first: those above the current one
    imported: dict[str, list[str]] = {}  # script → what it imports
    pending = list(names)
    while pending:
        current = pending[-1]
        if current not in urls and current not in texts:
            texts[current] = read(current)
            imported[current] = [m[3] for m in _imports(texts[current])]
        needed = [n for n in imported[current] if n not in urls] if current in texts else []
        if circle := [n for n in needed if n in texts]:
            raise MissingDependencyError(
                "scripts import each other in a circle",
                subject=current,
                actual=", ".join(circle),
                hint="this wheel is damaged: reinstall ruvq",
            )
        if needed:
            pending.extend(needed)
            continue
        if current in texts:
            urls[current] = publish(_linked(texts.pop(current), urls))
        pending.pop()
    return urls
