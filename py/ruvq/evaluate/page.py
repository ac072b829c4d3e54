"""The report as one HTML page that needs nothing else: styles, plots and the figures themselves inside."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from ..json_text import finite
from .files import BINS, SPAN
from .svg import Series, plot

STYLE = """
:root { --page: #fff; --ink: #1d1d1f; --soft: #666; --rule: #ddd; --c0: #1b6ca8; --c1: #c2571a; --c2: #2f7d4f;
  --c3: #7a3ff0; --c4: #b3261e; --c5: #00838f; --c6: #8d6e00; --c7: #ad1457; color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --page: #16181c; --ink: #e8e8ea; --soft: #a0a4ab;
  --rule: #33363c; --c0: #6db3e8; --c1: #f0965a; --c2: #79c99a; --c3: #b795ff; --c4: #ff8a80; --c5: #4dd0e1;
  --c6: #d9bf4f; --c7: #f48fb1; } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem;
  background: var(--page); color: var(--ink); }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; } p, caption { color: var(--soft); }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--rule); text-align: right;
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } caption { text-align: left; padding-bottom: .4rem; }
svg { width: 100%; height: auto; font: 11px system-ui, sans-serif; fill: var(--ink); }
.title { font-size: 14px; }
.grid { stroke: var(--rule); fill: none; } summary { cursor: pointer; margin: .6rem 0; }
"""
WHERE = {"attn_output": "attention out", "attn_q": "query", "attn_k": "key", "attn_v": "value"}
WHERE |= {"ffn_gate": "gate", "ffn_up": "up", "ffn_down": "down"}


def render_page(report: dict[str, Any]) -> str:
    """HTML of what `build_report` gives."""
    title = f"{report['model'] or 'model'}: what quantization changed"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{report['weights']:,} weights, architecture {escape(report['architecture'])}, compared with "
        f"{escape(os.path.basename(report['against']))}; ruvq {escape(report['ruvq'])}.</p>",
        _files_table(report["files"]),
        _error_against_bits(report),
        *(section for file in report["files"] for section in _file_sections(file)),
        "<h2>The figures</h2>",
        "<p>All of the above as JSON is in this page, in the element with the id <code>figures</code>.</p>",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>\n"
        + "\n".join(part for part in parts if part)
        + f'\n<script type="application/json" id="figures">{_embedded(report)}</script>\n</body></html>\n'
    )


def _embedded(report: dict[str, Any]) -> str:
    """JSON inside a script element: nothing in it may close the element; what isn't finite is null."""
    text = json.dumps(finite(report), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c")


def _table(caption: str, rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    lines = ["<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row) + "</tr>"
             for tag, row in [("th", head), *(("td", r) for r in body)]]  # fmt: skip
    return f'<div class="wide"><table><caption>{escape(caption)}</caption>{"".join(lines)}</table></div>'


def _db(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if math.isfinite(value) else "exact"


def _files_table(files: Sequence[dict[str, Any]]) -> str:
    rows = [["file", "bits", "bytes", "SNR, dB", "products, dB", "cosine", "outliers kept"]]
    predicted = any("predictions" in file for file in files)
    if predicted:
        rows[0] += ["perplexity", "of float", "KL, nats", "same top token"]
    for file in files:
        overall = file["overall"]
        row = [
            os.path.basename(file["path"]),
            f"{file['bits']:.3f}",
            f"{file['file_bytes']:,}",
            _db(overall["snr_db"]),
            _db(overall["output_snr_db"]),
            f"{overall['cosine']:.5f}",
            f"{overall['outlier_retention']:.4f}",
        ]
        if predicted:
            row += _predicted(file.get("predictions"))
        rows.append(row)
    caption = "bits: all bytes of tensors over all weights; ± is the standard error over windows of text"
    return _table(caption, rows)


def _predicted(found: dict[str, Any] | None) -> list[str]:
    if found is None:
        return [""] * 4
    return [
        f"{found['perplexity']:.3f} ± {found['stderr']:.3f}",
        f"{found['perplexity_ratio']:.4f} ± {found['perplexity_ratio_stderr']:.4f}",
        f"{found['kl_divergence']:.5f} ± {found['kl_stderr']:.5f}",
        f"{100 * found['same_top_token']:.2f} ± {100 * found['same_top_stderr']:.2f} %",
    ]


def _error_against_bits(report: dict[str, Any]) -> str:
    series = []
    for encoder in ("ruvq", "ggml"):
        rows = [r for r in report["formats"] if r["encoder"] == encoder]
        points = [(r["bits_per_weight"], r["snr_db"]) for r in rows]
        series.append(Series(encoder, points, [r["label"].removeprefix("ggml ") for r in rows], line=False))
    files = [(f["bits"], f["overall"]["snr_db"]) for f in report["files"]]
    names = [os.path.basename(f["path"]) for f in report["files"]]
    series.append(Series("these files", files, names, line=False))
    drawn = plot("Error against bits", "bits per weight", "signal to noise, dB", series)
    about = (
        "<p>Formats: on some rows of this model's matrices, without calibration, ruvq's trellis after its "
        "transform. Higher is better; six dB are one bit of an ideal quantizer.</p>"
    )
    return f"<h2>Error against bits</h2>{drawn}{about if report['formats'] else ''}" if drawn else ""


def _file_sections(file: dict[str, Any]) -> Iterable[str]:
    name = os.path.basename(file["path"])
    yield f"<h2>{escape(name)}</h2>"
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in file["formats"].items())
    yield f"<p>Weights by format: {escape(kinds)}.</p>"
    yield _layers(file)
    yield _attention(file)
    yield _spectrum(file)
    yield _histogram(file["histogram"])
    yield _tensors(file)


def _layers(file: dict[str, Any]) -> str:
    """Error by layer, a line for each kind of matrix: of the products where calibration tells them."""
    measured = all(t["output_snr_db"] is not None for t in file["tensors"] if t["name"].startswith("blk."))
    figure = "output_snr_db" if measured else "snr_db"
    lines: dict[str, list[tuple[float, float]]] = {}
    for tensor in file["tensors"]:
        parts = tensor["name"].split(".")
        if parts[0] == "blk":
            lines.setdefault(WHERE.get(parts[2], parts[2]), []).append((int(parts[1]), tensor[figure]))
    what = "products" if measured else "weights"
    series = [Series(kind, points) for kind, points in lines.items()]
    return plot(f"Error by layer, of {what}", "layer", f"signal to noise of {what}, dB", series)


def _attention(file: dict[str, Any]) -> str:
    points = [(layer, value) for layer, value in enumerate(file["attention"]) if value is not None]
    label = "signal to noise of q·k, dB"
    return plot("Attention scores by layer", "layer", label, [Series("scores", points)] if points else [])


def _spectrum(file: dict[str, Any]) -> str:
    bands = file["overall"]["spectral_bands_db"]
    points = [((i + 0.5) / len(bands), value) for i, value in enumerate(bands)]
    axis = "frequency, as a part of the highest"
    return plot("Spectral distortion", axis, "distortion, dB", [Series("difference", points)])


def _histogram(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    width = 2 * SPAN / BINS
    places = [-SPAN + (i + 0.5) * width for i in range(BINS)]

    def points(values: Sequence[float]) -> list[tuple[float, float]]:
        return [(x, 100 * y) for x, y in zip(places, values, strict=True)]

    series = [
        Series(found["format"], points(found["decoded"]), bars=True),
        Series("floats", points(found["original"])),
    ]
    title = f"Weights over the grid: {found['tensor']}"
    axis = "weight over the rms of its block"
    return plot(title, axis, "weights, %", series)


def _tensors(file: dict[str, Any]) -> str:
    head = [
        "matrix",
        "format",
        "bits",
        "mse",
        "SNR, dB",
        "spectral, dB",
        "products, dB",
        "cosine",
        "outliers kept",
    ]
    rows = [head]
    for t in file["tensors"]:
        rows.append(
            [
                t["name"],
                t["format"] + (" + hadamard" if t["hadamard"] else ""),
                f"{t['bits']:.3f}",
                f"{t['mse']:.4g}",
                _db(t["snr_db"]),
                _db(t["spectral_distortion_db"]) if math.isfinite(t["snr_db"]) else "",
                _db(t["output_snr_db"]),
                f"{t['cosine']:.5f}",
                f"{t['outlier_retention']:.4f}",
            ]
        )
    return f"<details><summary>Every matrix</summary>{_table('', rows)}</details>"
