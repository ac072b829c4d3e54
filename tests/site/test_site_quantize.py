"""Quantizing in the tab: the same bytes as on the desktop, progress, cancelling, errors, running at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from site_page import PYTHON_MS, await_state, await_text

import ruvq
from browser import ROOT
from chat.chat_models import write_chat_model


@pytest.fixture(scope="module")
def quantizing(lasting: Any) -> Any:
    """The page at its view."""
    lasting.evaluate("location.hash = '#quantize'")
    lasting.wait_for_selector("#formats input")
    return lasting


def choose(page: Any, *formats: str) -> None:
    for box in page.query_selector_all("#formats input"):
        box.set_checked(box.get_attribute("value") in formats)


def downloaded(page: Any, row: int, folder: Path) -> Path:
    with page.expect_download() as download:
        page.click(f"#results tr:nth-child({row}) >> text=Download")
    target = folder / download.value.suggested_filename
    download.value.save_as(target)
    return target


def contents(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Metadata but for what tells of the run (recipe, header's digest), and every tensor's bytes."""
    with ruvq.GGUFFile.open(path) as file:
        assert file.verify().ok
        told = ("ruvq.recipe", "ruvq.sha256.header")
        metadata = {key: file.metadata[key] for key in file.metadata if key not in told}
        return metadata, {t.name: bytes(file.tensor_bytes(t.name)) for t in file.tensors}


@pytest.mark.slow
def test_the_bundled_model_gives_the_desktops_bytes(quantizing: Any, tmp_path: Path) -> None:
    choose(quantizing, "pi-t3", "ternary")
    quantizing.click("#quantize-run")
    await_text(quantizing, "#quantize-status", "Done", PYTHON_MS)
    assert quantizing.locator("#results tr").count() == 2
    for row, name in enumerate(("pi-t3", "ternary"), 1):
        here = tmp_path / f"desktop-{name}.gguf"
        report = ruvq.quantize_model(ROOT / "web" / "model", here, name, progress=False)
        made = downloaded(quantizing, row, tmp_path)
        assert made.name == f"model-{name}.gguf"
        assert contents(made) == contents(here)
        cells = quantizing.locator(f"#results tr:nth-child({row}) td").all_inner_texts()
        assert float(cells[0]) == pytest.approx(report.bits_per_weight_actual, abs=0.006)
        assert float(cells[1]) == pytest.approx(report.snr_db, abs=0.06)


@pytest.mark.slow
def test_the_plots_say_what_they_show(quantizing: Any) -> None:
    names = [
        chart.get_attribute("aria-label") for chart in quantizing.query_selector_all("#quantize-plots svg")
    ]
    assert len(names) == 2
    assert names[0].startswith("Histogram of the weights")
    assert "in dB over the weights" in names[1]
    bars = quantizing.query_selector_all("#quantize-plots rect")
    heights = [float(bar.get_attribute("height")) for bar in bars]
    assert sum(height > 1 for height in heights) > 5
    assert quantizing.locator("#tensors tbody tr").count() == len(
        contents(ROOT / "out" / "models" / "stories-pi-t3.gguf")[1]
    )


def test_a_float_gguf_file_of_ones_own(quantizing: Any, data_dir: Path, tmp_path: Path) -> None:
    folder = data_dir / "stories260K"
    source = tmp_path / "floats.gguf"
    ruvq.quantize_model(
        folder / "stories260K.bin", source, "f32", tokenizer=folder / "tok512.bin", progress=False
    )
    quantizing.check("input[name=source][value=own]")
    quantizing.set_input_files("#source-files", source)
    choose(quantizing, "pi-q2")
    quantizing.click("#quantize-run")
    await_text(quantizing, "#quantize-status", "Done", PYTHON_MS)
    here = tmp_path / "here.gguf"
    ruvq.quantize_model(source, here, "pi-q2", progress=False)
    made = downloaded(quantizing, 1, tmp_path)
    assert made.name == "floats-pi-q2.gguf"
    assert contents(made) == contents(here)


def drop(page: Any, *paths: Path) -> None:
    """Drops files or folders of the disk, as a hand does."""
    page.locator("#drop").scroll_into_view_if_needed()
    box = page.locator("#drop").bounding_box()
    place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + 8}
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    session = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, **place, "data": data})
    session.detach()


def listed(page: Any) -> list[str]:
    return sorted(text.split(",")[0] for text in page.locator("#source-list li").all_inner_texts())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A Hugging Face folder, with what lies about in such folders."""
    path = write_chat_model(tmp_path / "tiny")
    (path / ".gitattributes").write_text("x")
    (path / "onnx").mkdir()
    (path / "onnx" / "config.json").write_text("{}")
    return path


@pytest.mark.parametrize("way", ["dropped", "chosen"])
def test_a_whole_folder(quantizing: Any, folder: Path, tmp_path: Path, way: str) -> None:
    quantizing.check("input[name=source][value=own]")
    if way == "dropped":
        drop(quantizing, folder)
    else:
        quantizing.set_input_files("#source-folder", folder)
    quantizing.wait_for_function("document.getElementById('source-list').children.length === 4")
    assert listed(quantizing) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    choose(quantizing, "pi-q3")
    quantizing.click("#quantize-run")
    await_text(quantizing, "#quantize-status", "Done", PYTHON_MS)
    here = tmp_path / "here.gguf"
    ruvq.quantize_model(folder, here, "pi-q3", progress=False)
    made = downloaded(quantizing, 1, tmp_path)
    assert made.name == "tiny-pi-q3.gguf"
    assert contents(made) == contents(here)


def test_several_folders_and_a_folder_of_everything_are_refused(quantizing: Any, tmp_path: Path) -> None:
    quantizing.check("input[name=source][value=own]")
    many = tmp_path / "many"
    many.mkdir()
    for number in range(1001):
        (many / f"{number}.json").touch()
    for paths, found in (([many, tmp_path], "2 things"), ([many], "more")):
        drop(quantizing, *paths)
        quantizing.wait_for_selector("#error:not([hidden])")
        assert quantizing.inner_text("#error-actual").endswith(found)
        quantizing.click("#error-close")


def test_what_is_no_model_is_refused(quantizing: Any, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_text("<!DOCTYPE html>")
    quantizing.check("input[name=source][value=own]")
    quantizing.set_input_files("#source-files", tmp_path / "model.gguf")
    quantizing.click("#quantize-run")
    quantizing.wait_for_selector("#error:not([hidden])", timeout=PYTHON_MS)
    assert "HTML" in quantizing.inner_text("#error")
    assert quantizing.inner_text("#error-expected")
    assert quantizing.inner_text("#quantize-status") == "Quantizing failed"
    quantizing.click("#error-close")


def test_cancelling_ends_the_work_and_the_next_one_runs(quantizing: Any) -> None:
    quantizing.check("input[name=source][value=bundled]")
    choose(quantizing, "pi-t3")
    # as soon as there is progress, from inside the page
    quantizing.evaluate(
        """() => new MutationObserver((_, observer) => {
          if (!document.getElementById("quantize-status").textContent.startsWith("pi-t3:")) return;
          observer.disconnect();
          document.getElementById("quantize-stop").click();
        }).observe(document.getElementById("quantize-status"), { childList: true })"""
    )
    quantizing.click("#quantize-run")
    await_text(quantizing, "#quantize-status", "Cancelled", PYTHON_MS)
    choose(quantizing, "pi-q3")
    quantizing.click("#quantize-run")
    await_text(quantizing, "#quantize-status", "Done", PYTHON_MS)


def test_the_result_runs_at_once(quantizing: Any) -> None:
    quantizing.click("#results tr:nth-child(1) >> text=Run")
    quantizing.wait_for_selector("#view-write:not([hidden])")
    await_state(quantizing, "ready")
    assert quantizing.inner_text("#now-name") == "model-pi-q3.gguf"
    quantizing.fill("#max-tokens", "20")
    quantizing.click("#run")
    await_text(quantizing, "#status", "Done")
    assert quantizing.evaluate("document.getElementById('output').lastChild.textContent")
