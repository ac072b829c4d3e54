"""What goes wrong on the way to a model is a typed error: what was expected, what was found, what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import serving

# Loads a model; gives its info, or the error's fields. Progress events come too.
LOAD = """async ([url, options, abortAfter]) => {
  const { Model, RuvqError } = await import("/ruvq.js");
  const events = [];
  const controller = new AbortController();
  const onProgress = (event) => {
    events.push(event);
    if (abortAfter && event.phase === abortAfter) controller.abort();
  };
  try {
    const model = await Model.fetch(url, { ...options, onProgress, signal: controller.signal });
    model.dispose();
    return { info: model.info, events };
  } catch (error) {
    const { name, code, subject, expected, actual, hint, message } = error;
    const typed = error instanceof RuvqError;
    return { name, code, subject, expected, actual, hint, message, typed, events };
  }
}"""


def load(page: Any, url: str, options: dict[str, Any] | None = None, abort_after: str = "") -> dict[str, Any]:
    return page.evaluate(LOAD, [url, options or {}, abort_after])


@pytest.mark.parametrize("url", ["/fault/html", "/blank.html"])
def test_a_web_page_instead_of_a_model_is_named_with_its_address(page: Any, site: str, url: str) -> None:
    error = load(page, url)
    assert (error["name"], error["code"], error["typed"]) == ("DownloadError", "RQ_E_MAGIC", True)
    assert error["subject"] == site + url
    assert "got HTML instead of a model" in error["message"]
    assert error["hint"]


def test_an_error_status_is_a_download_error(page: Any) -> None:
    error = load(page, "/models/none.gguf")
    assert error["name"] == "DownloadError"
    assert "404" in error["actual"]


def test_something_that_is_no_model_is_refused_by_its_first_bytes(page: Any) -> None:
    error = load(page, "/ruvq.wasm")
    assert (error["name"], error["code"]) == ("DownloadError", "RQ_E_MAGIC")


def test_a_cut_connection_tells_how_much_came(page: Any, models: Path) -> None:
    size = (models / "f32.gguf").stat().st_size
    error = load(page, "/fault/cut?file=models/f32.gguf")
    assert error["name"] == "DownloadError"
    assert error["expected"] == f"{size} bytes"
    # a browser may throw away what it has not handed out when the connection breaks
    came = re.match(r"(\d+) bytes, then: \S", error["actual"])
    assert came
    assert 0 <= int(came[1]) <= size // 2


def test_no_server_is_a_download_error(page: Any) -> None:
    with serving(Path(__file__).parent) as gone:
        pass
    assert load(page, f"{gone}/model.gguf")["name"] == "DownloadError"


def test_a_model_larger_than_memory_is_refused_before_it_is_downloaded(page: Any) -> None:
    error = load(page, "/fault/huge?file=models/pi-t3.gguf")
    assert error["name"] == "MemoryLimitError"
    assert "5722" in error["expected"]  # MB of 6e9 bytes
    assert not [event for event in error["events"] if event["phase"] == "download"]


def test_a_context_larger_than_memory_is_refused_while_the_file_arrives(page: Any) -> None:
    error = load(page, "/fault/slow?file=models/f32.gguf", {"context": 2**31 - 1, "kv": "f32"})
    assert error["name"] in ("MemoryLimitError", "UsageError", "ModelError", "ContextFullError")
    assert error["expected"] or error["actual"]


@pytest.mark.parametrize("fault", ["unannounced", "gzip"])
def test_a_size_that_is_not_known_beforehand_works(page: Any, fault: str, models: Path) -> None:
    result = load(page, f"/fault/{fault}?file=models/pi-t3.gguf")
    assert result["info"]["fileBytes"] == (models / "pi-t3.gguf").stat().st_size
    downloads = [event for event in result["events"] if event["phase"] == "download"]
    assert downloads
    assert {event["total"] for event in downloads} == {None}


@pytest.fixture
def other_origin(site_folder: Path) -> Iterator[str]:
    with serving(site_folder) as url:
        yield url


def test_a_compressed_size_hidden_by_another_origin_does_not_cut_the_file(
    page: Any, other_origin: str
) -> None:
    result = load(page, f"{other_origin}/fault/gzip?file=models/f32.gguf")
    assert result["info"]["formats"] == {"f32": 260032}
    assert all(event["total"] is None or event["loaded"] <= event["total"] for event in result["events"])


def test_progress_is_in_bytes_and_ends_with_ready(page: Any, models: Path) -> None:
    size = (models / "f32.gguf").stat().st_size
    events = load(page, "/models/f32.gguf", {"verify": True})["events"]
    phases = [event["phase"] for event in events]
    assert list(dict.fromkeys(phases)) == ["engine", "download", "verify", "ready"]
    downloads = [event for event in events if event["phase"] == "download"]
    assert downloads[-1]["total"] == size
    assert [event["loaded"] for event in downloads] == sorted(event["loaded"] for event in downloads)


def test_loading_stops_at_once_when_aborted(page: Any) -> None:
    error = load(page, "/fault/slow?file=models/f32.gguf", abort_after="download")
    assert error["name"] == "AbortError"
    assert error["typed"]


def test_damaged_weights_are_refused_when_asked_to_verify(page: Any, site_folder: Path, models: Path) -> None:
    data = bytearray((models / "pi-t3.gguf").read_bytes())
    data[-100] ^= 1
    (site_folder / "models" / "damaged.gguf").write_bytes(data)
    error = load(page, "/models/damaged.gguf", {"verify": True})
    assert error["name"] in ("IntegrityError", "DataError")
    assert error["subject"]


def test_a_missing_engine_names_its_address(page: Any, site: str) -> None:
    error = load(page, "/models/f32.gguf", {"wasmURL": "/none.wasm"})
    assert (error["name"], error["subject"]) == ("DownloadError", f"{site}/none.wasm")


def test_a_web_page_instead_of_the_engine_is_named(page: Any) -> None:
    error = load(page, "/models/f32.gguf", {"wasmURL": "/blank.html"})
    assert error["name"] == "DownloadError"
    assert "not a WebAssembly module" in error["message"]


def test_a_worker_that_is_not_there_is_a_typed_error(page: Any) -> None:
    error = load(page, "/models/f32.gguf", {"workerURL": "/none.js"})
    assert error["name"] == "UnsupportedError"
    assert "none.js" in error["subject"]
