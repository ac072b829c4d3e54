"""The site on the plainest of servers: one that knows no isolation headers, and no other server at all."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from site_page import await_text, watched

from browser import serving

IMPORT = re.compile(r"""^(?:import|export) (?:[^"`;(]*? from )?"(\.[^"]+)";""", re.MULTILINE)


def imported(site: Path, *scripts: str) -> set[str]:
    """These scripts and all that they import, as paths below the site."""
    found: set[str] = set()
    waiting = list(scripts)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        folder = (site / name).parent
        names = IMPORT.findall((site / name).read_text())
        waiting += [(folder / other).resolve().relative_to(site.resolve()).as_posix() for other in names]
    return found


class Quiet(SimpleHTTPRequestHandler):
    """Python's own static server, without its log."""

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def plain_server(site_path: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_the_service_worker_gives_it_threads(browser: Any, plain_server: str) -> None:
    with watched(browser, f"{plain_server}/") as page:
        page.wait_for_function("crossOriginIsolated")
        page.wait_for_function("document.body?.dataset.state === 'ready'")
        page.fill("#max-tokens", "20")
        page.click("#run")
        await_text(page, "#status", "Done")
        page.click("nav a[href='#models']")
        page.wait_for_selector("#device dd")
        assert not page.is_visible("#advice")  # nothing is missing


def test_a_strict_content_security_policy_is_enough(browser: Any, site_path: Path) -> None:
    policy = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; img-src data:"
    with (
        serving(site_path, extra={"Content-Security-Policy": policy}) as url,
        watched(browser, f"{url}/") as page,  # it is ready without eval, and nothing was refused
    ):
        page.fill("#max-tokens", "20")
        page.click("#run")
        await_text(page, "#status", "Done")


def test_the_folder_is_complete(site_path: Path) -> None:
    """Every file that a script, a style or the page names is there."""
    for name in ("index.html", "ruvq.js", "ruvq.wasm", "ruvq-threads-relaxed.wasm", "coi-serviceworker.js"):
        assert (site_path / name).is_file()
    (version,) = (site_path / "pyodide").glob("3*")
    for name in ("pyodide.mjs", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json"):
        assert (version / name).is_file()
    assert list(version.glob("micropip-*.whl"))
    assert list((site_path / "pyodide" / "wheels").glob("ruvq-*-none-any.whl"))
    assert len(list((site_path / "models").glob("*.gguf"))) == 2
    assert (site_path / "source" / "model.safetensors").is_file()
    assert not list(site_path.rglob("*.part"))


def test_all_that_the_page_imports_is_asked_for_at_once(site_path: Path) -> None:
    page = (site_path / "index.html").read_text()
    listed = re.findall(r'<link rel="modulepreload" href="([^"]+)">', page)
    started = re.findall(r'<script type="module" src="([^"]+)">', page)
    assert started == ["site/ahead.js", "site/main.js"]
    assert len(listed) == len(set(listed))
    assert {*listed, "site/ahead.js"} == imported(site_path, *started)
