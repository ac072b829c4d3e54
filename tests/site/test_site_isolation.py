"""Isolation by the service worker, on a server that sends no headers for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from browser import ISOLATION, serving


def await_ready(page: Any) -> None:
    page.wait_for_function("() => document.body?.dataset.state === 'ready'", timeout=30_000)


def test_the_service_worker_isolates_a_page_whose_server_does_not(browser: Any, site_path: Path) -> None:
    with serving(site_path, without=ISOLATION) as url:
        context = browser.new_context()
        page = context.new_page()
        loads = []
        page.on("framenavigated", lambda frame: loads.append(frame.url))
        page.goto(f"{url}/")
        page.wait_for_function("() => window.crossOriginIsolated", timeout=30_000)
        await_ready(page)
        assert len(loads) == 2  # the first one, and one more
        assert page.inner_text("#status").startswith("Ready, on ")
        cores = page.evaluate("navigator.hardwareConcurrency")
        assert ("one thread" in page.inner_text("#status")) == (cores == 1)
        assert not page.is_visible("#advice")
        page.reload()
        await_ready(page)
        assert len(loads) == 3
        context.close()


def test_a_page_that_cannot_be_isolated_reloads_once_at_most(browser: Any, site_path: Path) -> None:
    """Here the service worker is replaced by one that does nothing."""
    with serving(site_path, without=ISOLATION) as url:
        context = browser.new_context()
        page = context.new_page()
        loads = []
        page.on("framenavigated", lambda frame: loads.append(frame.url))
        script = (site_path / "coi-serviceworker.js").read_text()
        tame = script.replace(
            'if (typeof window === "undefined") serve();', 'if (typeof window === "undefined") {}'
        )
        assert tame != script
        body = {"body": tame, "content_type": "text/javascript"}
        context.route("**/coi-serviceworker.js", lambda route: route.fulfill(**body))
        page.goto(f"{url}/")
        page.wait_for_function("() => sessionStorage.getItem('ruvq-isolation-reloaded')", timeout=30_000)
        page.wait_for_timeout(1500)
        await_ready(page)
        assert len(loads) == 2
        assert page.inner_text("#status") == "Ready, on one thread"
        assert page.evaluate("window.crossOriginIsolated") is False
        context.close()


def test_an_isolated_page_registers_nothing(browser: Any, site: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{site}/")
    await_ready(page)
    count = "navigator.serviceWorker.getRegistrations().then((all) => all.length)"
    assert page.evaluate(count) == 0
    context.close()
