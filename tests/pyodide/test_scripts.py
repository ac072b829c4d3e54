"""The wheel's scripts are linked by URL in the right order."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Coroutine
from pathlib import Path

import pytest

import ruvq
from ruvq.browser import worker_model
from ruvq.browser.scripts import link
from ruvq.errors import MissingDependencyError


def publisher():
    published: list[str] = []

    def publish(text: str) -> str:
        published.append(text)
        return f"blob:{len(published)}"

    return published, publish


def test_every_import_is_replaced_by_the_url_of_its_script():
    files = {
        "a.js": "\n".join(
            [
                '// import { a } from "./a.js";',
                'import { b } from "./b.js";',
                "export * from './c.js';",
                'const d = await import("./d.js");',
            ]
        ),
        "b.js": 'import "./c.js";',
        "c.js": "export const c = 1; // see ./b.js",
        "d.js": "export const d = 1;",
    }
    published, publish = publisher()
    urls = link(["a.js"], files.__getitem__, publish)
    assert set(urls) == set(files)
    assert published[int(urls["a.js"][5:]) - 1].splitlines() == [
        '// import { a } from "./a.js";',
        f'import {{ b }} from "{urls["b.js"]}";',
        f"export * from '{urls['c.js']}';",
        f'const d = await import("{urls["d.js"]}");',
    ]
    assert published[int(urls["c.js"][5:]) - 1] == files["c.js"]
    assert len(published) == 4


def test_a_circle_of_imports_is_refused():
    files = {"a.js": 'import "./b.js";', "b.js": 'import "./a.js";'}
    with pytest.raises(MissingDependencyError, match="circle"):
        link(["a.js"], files.__getitem__, publisher()[1])


def test_what_two_scripts_import_is_published_once():
    files = {"a.js": 'import "./c.js";', "b.js": 'import "./c.js";\nimport "./a.js";', "c.js": "1;"}
    published, publish = publisher()
    urls = link(["a.js", "b.js"], files.__getitem__, publish)
    assert set(urls) == set(files)
    assert len(published) == 3


def finished(coroutine: Coroutine[None, None, worker_model.Runtime]) -> worker_model.Runtime:
    """What a coroutine that waits for nothing returns; Playwright's tests leave an event loop running."""
    with pytest.raises(StopIteration) as end:
        coroutine.send(None)
    return end.value.value


def register(monkeypatch: pytest.MonkeyPatch, version: str) -> types.ModuleType:
    module = types.ModuleType(worker_model.PAGES_OWN)
    monkeypatch.setattr(module, "version", version, raising=False)
    monkeypatch.setitem(sys.modules, worker_model.PAGES_OWN, module)
    monkeypatch.setattr(worker_model, "_runtime", None)
    return module


def test_the_pages_own_script_is_taken_before_the_wheels(monkeypatch: pytest.MonkeyPatch):
    module = register(monkeypatch, ruvq.__version__)
    assert finished(worker_model.runtime()) == worker_model.Runtime(module, {})


def test_a_script_of_another_release_is_refused(monkeypatch: pytest.MonkeyPatch):
    register(monkeypatch, "0.0.9")
    with pytest.raises(MissingDependencyError, match=r"another release") as caught:
        finished(worker_model.runtime())
    assert (caught.value.expected, caught.value.actual) == (ruvq.__version__, "0.0.9")


def test_the_scripts_release_is_the_packages():
    script = (Path(__file__).resolve().parents[2] / "web" / "ruvq.js").read_text()
    assert re.findall(r'^export const version = "(.+)";$', script, re.MULTILINE) == [ruvq.__version__]
