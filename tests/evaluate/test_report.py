"""The report: figures against direct comparison, a page that needs nothing else, bad input."""

from __future__ import annotations

import dataclasses
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import ruvq
from ruvq.cli import main
from ruvq.evaluate.files import BINS, SPAN, measure_file
from ruvq.evaluate.page import render_page
from ruvq.evaluate.report import Options, build_report
from ruvq.evaluate.svg import Series, plot, ticks
from ruvq.quantize.pipeline import quantize_model
from ruvq.sources import open_source
from sources.tiny_models import TINY, random_weights, write_huggingface

TEXT = "some words to be predicted<|endoftext|>and a few others, of another piece"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_huggingface(tmp_path / "model", random_weights())


@pytest.fixture
def file(model: Path, tmp_path: Path) -> Path:
    path = tmp_path / "a.gguf"
    quantize_model(model, path, "pi-t3", seed=5, progress=False)
    return path


def test_every_matrix_is_compared_in_its_own_coordinates(model: Path, file: Path) -> None:
    with open_source(model) as source:
        found = measure_file(file, source)
    weights = random_weights()
    assert [t.name for t in found.tensors] == [n for n, v in weights.items() if v.ndim > 1]
    for tensor in found.tensors:
        values = weights[tensor.name]
        turned = ruvq.dequantize(ruvq.quantize(ruvq.hadamard(values, 5), "pi-t3"))
        expected = ruvq.compare(values, ruvq.hadamard(turned, 5, inverse=True))
        assert tensor.metrics.mse == pytest.approx(expected.mse)
        assert tensor.metrics.outlier_retention == pytest.approx(expected.outlier_retention)
        assert tensor.hadamard
        assert tensor.rows_compared == len(values)
    assert found.formats["pi-t3"] == sum(v.size for v in weights.values() if v.ndim > 1)
    assert len(found.attention) == 2
    assert all(value is not None and 5 < value < 30 for value in found.attention)


def test_the_histogram_counts_all_weights_of_whole_blocks(model: Path, file: Path) -> None:
    with open_source(model) as source:
        found = measure_file(file, source).histogram
    assert found is not None
    assert len(found.original) == len(found.decoded) == BINS
    assert sum(found.original) == pytest.approx(1, abs=0.01)
    assert sum(found.decoded) == pytest.approx(1, abs=0.01)
    assert SPAN == 4


def test_large_matrices_are_compared_on_some_rows(
    model: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ruvq.evaluate.files.MOST_WEIGHTS", 100)
    with open_source(model) as source:
        found = measure_file(file, source)
    assert all(t.rows_compared < t.shape[0] for t in found.tensors)
    assert found.attention == [None, None]
    assert found.overall.snr_db == pytest.approx(16.5, abs=2)


class Page(HTMLParser):
    """Collects what a page refers to, and its elements."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.text: dict[str, str] = {}
        self._open = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._open = tag
        self.links += [str(v) for k, v in attrs if k in ("src", "href", "action", "data", "xlink:href")]

    def handle_data(self, data: str) -> None:
        self.text[self._open] = self.text.get(self._open, "") + data


def test_the_page_needs_nothing_else_and_holds_the_figures(model: Path, file: Path) -> None:
    options = Options(against=str(model), text=TEXT, formats=("pi-q3", "pi-t2"), peers=False)
    report = build_report([file], options)
    html = render_page(report)
    page = Page()
    page.feed(html)
    assert page.links == []
    assert "url(" not in html
    assert "@import" not in html
    assert page.tags.count("svg") == 5
    figures = json.loads(re.search(r'id="figures">(.*?)</script>', html, re.S)[1])  # type: ignore[index]
    assert figures["files"][0]["predictions"]["kl_divergence"] > 0
    assert {row["label"] for row in figures["formats"]} == {"pi-q3", "pi-t2"}
    for svg in re.findall(r"<svg.*?</svg>", html, re.S):
        ET.fromstring(svg)
    assert "a.gguf" in html


def test_names_from_files_can_t_become_markup(model: Path, file: Path) -> None:
    report = build_report([file], Options(against=str(model)))
    report["model"] = "</script><script>alert(1)</script>"
    report["files"][0]["tensors"][0]["name"] = "blk.0.<img src=x onerror=alert(1)>.weight"
    html = render_page(report)
    assert "<img" not in html
    assert html.count("<script") == 1


def test_floats_lose_nothing_and_can_still_be_drawn(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "f.gguf"
    quantize_model(model, path, "f32", progress=False)
    report = build_report([path], Options(against=str(model)))
    html = render_page(report)
    assert ">exact<" in html
    assert "Infinity" not in html
    assert "inf" not in re.sub(r"[a-z]*inf[a-z]+", "", html)


def run(capfd: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    capfd.readouterr()
    code = main([str(w) for w in words])
    out, err = capfd.readouterr()
    return code, out, err


def test_the_command_writes_page_and_json(
    model: Path, file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text, page = tmp_path / "text.txt", tmp_path / "report.html"
    text.write_text(TEXT)
    words = ["report", file, "--against", model, "--formats", "none", "--text", text, "--output", page]
    code, out, err = run(capfd, *words, "--json")
    assert code == 0, err
    found = json.loads(out.splitlines()[-1])
    assert found["output"] == str(page)
    assert found["formats"] == []
    assert found["files"][0]["overall"]["snr_db"] > 10
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [p.name for p in tmp_path.iterdir() if p.name.endswith(".part")] == []
    code, out, err = run(capfd, *words)
    assert code == 3
    assert "exists already" in err
    assert run(capfd, *words, "--force", "--quiet")[0] == 0


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["report"], 2, "--against"),
        (["report", "{file}"], 2, "--against"),
        (["report", "none.gguf", "--against", "{model}"], 3, "none.gguf"),
        (["report", "{file}", "--against", "nowhere"], 3, "nowhere"),
        (["report", "{file}", "--against", "{model}", "--formats", "pi-z"], 2, "unknown format"),
        (["report", "{file}", "--against", "{model}", "--formats", "q8_k"], 2, "not written"),
        (["report", "{file}", "--against", "{model}", "--output", "{model}"], 3, "can't be written there"),
        (["report", "{file}", "--against", "{model}", "--output", "/nowhere/a.html"], 3, "no folder"),
        (["report", "{file}", "--against", "{model}", "--text", "none.txt"], 3, "none.txt"),
        (["report", "{file}", "--against", "{other}"], 3, "isn't of this float model"),
    ],
)
def test_bad_input_is_named(
    model: Path,
    file: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    message: str,
) -> None:
    narrow = dataclasses.replace(TINY, ff_width=TINY.ff_width * 2)
    other = write_huggingface(tmp_path / "other", random_weights(narrow), narrow)
    found = run(capfd, *(w.format(file=file, model=model, other=other) for w in words))
    assert found[0] == code
    assert message in found[2]


@pytest.mark.parametrize(
    ("low", "high", "first", "count"), [(0, 10, 0, 6), (2.1, 3.4, 2.2, 7), (-3, 7e6, 0, 8), (5, 5, 5, 1)]
)
def test_ticks_are_round_and_inside(low: float, high: float, first: float, count: int) -> None:
    found = ticks(low, high)
    assert found[0] == pytest.approx(first)
    assert len(found) == count
    assert all(low - 1e-9 <= mark <= high + 1e-9 for mark in found)


def test_a_plot_of_nothing_is_no_plot() -> None:
    assert plot("t", "x", "y", []) == ""
    assert plot("t", "x", "y", [Series("a", [(1.0, float("inf"))])]) == ""
    drawn = plot("t", "x", "y", [Series("a", [(1.0, 2.0), (2.0, float("nan"))], ["p", "q"])])
    assert ">p<" in drawn
    assert ">q<" not in drawn
    assert np.isfinite([float(v) for v in re.findall(r'cx="([^"]+)"', drawn)]).all()
