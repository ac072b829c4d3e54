"""The profile of a token and the roofline as Markdown tables, and the place in a document they go to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ORDER = (  # of the pieces of a token
    *("query", "key", "value", "attention_out", "gate", "up", "down", "output"),
    *("attention", "rope", "swiglu", "activations", "hadamard", "norm", "embedding", "rest"),
    *("sampling", "calls"),
)


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "| --- |" + " ---: |" * (len(heads) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _label(result: dict[str, Any]) -> str:
    return result["model"].removeprefix("random-").removesuffix(".gguf")


def roofline(results: list[dict[str, Any]]) -> str:
    """One line a model and host."""
    heads = [
        "model, host",
        "bits",
        "MB a token",
        "operations a byte",
        "reading GB/s",
        "reading",
        "products from cache",
        "products measured",
        "measured",
        "share",
    ]
    rows = []
    for r in results:
        limits = r["tokens_per_s"]
        lowest = min(limits["reading"], limits["products_from_cache"])
        rows.append(
            [
                f"{_label(r)}, {r['host']}",
                f"{r['bits_per_weight']:.2f}",
                f"{r['bytes_per_token'] / 1e6:.1f}",
                f"{r['operations_per_byte']:.1f}",
                f"{r['read_bytes_per_s'] / 1e9:.1f}",
                *(
                    f"{limits[key]:.0f}"
                    for key in ("reading", "products_from_cache", "products_measured", "measured")
                ),
                f"{100 * limits['measured'] / lowest:.0f} %",
            ]
        )
    return _table(heads, rows)


def profile(results: list[dict[str, Any]], context: str) -> str:
    """The pieces of a token after `context` tokens, a column a model; results are of one host."""
    rows = []
    for name in ORDER:
        cells = []
        for r in results:
            after = r["after"][context]
            cells.append(f"{1e6 * after['pieces_s'][name]:.0f} ({100 * after['shares'][name]:.1f} %)")
        rows.append([name, *cells])
    rows.append(["**token**", *(f"{1e6 * r['after'][context]['token_s']:.0f}" for r in results)])
    rows.append(
        ["without a clock", *(f"{1e6 * r['after'][context]['token_without_clock_s']:.0f}" for r in results)]
    )
    return _table(["us (share)", *map(_label, results)], rows)


def contexts(results: list[dict[str, Any]]) -> str:
    """Attention and the whole token by length of the text before."""
    rows = []
    for r in results:
        for context in sorted(r["after"], key=int):
            after = r["after"][context]
            attention = after["pieces_s"]["attention"]
            rows.append(
                [
                    f"{_label(r)}, {r['host']}",
                    context,
                    f"{1e3 * after['token_s']:.1f}",
                    f"{1e3 * attention:.2f}",
                    f"{100 * after['shares']['attention']:.0f} %",
                ]
            )
    return _table(["model, host", "tokens before", "ms a token", "ms of attention", "share"], rows)


def markdown(results: list[dict[str, Any]], chromium: str, machine: dict[str, Any]) -> str:
    """Roofline, then a profile a host, then attention by length of the text."""
    load, cores = machine["load_average_at_start"] or 0.0, machine["cores"]
    busy = ": busy with other work, so what a single figure says is little" if load > cores / 2 else ""
    parts = [
        f"{machine['processor']}, {cores} cores, load {load:.1f} at the start{busy}.",
        "Roofline: tokens a second that each limit allows, and measured; the share is of the lower limit.",
        roofline(results),
    ]
    for host in dict.fromkeys(r["host"] for r in results):
        of_host = [r for r in results if r["host"] == host]
        context = min(of_host[0]["after"], key=int)
        where = f"Chromium {chromium}" if host == "chromium" else "natively"
        kernels = of_host[0]["kernels"]
        parts.append(f"A token after {context} others, {where}, {kernels}, one thread:")
        parts.append(profile(of_host, context))
    parts.append("Attention by the length of the text before:")
    parts.append(contexts(results))
    return "\n\n".join(parts)


def write_between(path: Path, name: str, text: str) -> None:
    """Replaces what stands between `<!-- name -->` and `<!-- /name -->`; appends both where they are not."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    old = path.read_text() if path.exists() else "# Performance\n"
    if begin not in old or end not in old:
        old = f"{old.rstrip()}\n\n{begin}\n{end}\n"
    before, rest = old.split(begin, 1)
    after = rest.split(end, 1)[1]
    part = path.with_name(path.name + ".part")
    part.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")
    part.replace(path)
