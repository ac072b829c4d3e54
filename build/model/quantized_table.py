"""Writes the bundled model's perplexity in every shipped format into its card.

    .venv/bin/python build/model/quantized_table.py --data ../shared/data

Quantizes web/model as `make demo` does, evaluates each file on tiny_stories_test.txt by the protocol of
docs/formats.md, and replaces the table between the markers of web/model/README.md. Takes a few minutes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "build"), str(ROOT / "py")]

import ruvq  # noqa: E402
from pages import insert  # noqa: E402
from ruvq.evaluate.perplexity import perplexity  # noqa: E402

MODEL = ROOT / "web" / "model"
FORMATS = ("f16", "q8_0", "pi-x3", "pi-t3", "pi-x2", "pi-t2", "pi-q3", "ternary")


def row(name: str, text: str, folder: Path) -> str:
    """One line of the table."""
    path = folder / f"{name}.gguf"
    report = ruvq.quantize_model(MODEL, path, name, progress=False)
    with ruvq.Model.open(path, kv="f32" if name == "f16" else "f16") as model:
        found = perplexity(model, text)
    bits = f"{report.bits_per_weight:.2f} | {report.bits_per_weight_actual:.2f}"
    size = f"{path.stat().st_size / 1e6:.2f}"
    return f"| {name} | {bits} | {size} | {float(found):.2f} ± {found.stderr:.2f} |"


def main() -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the test data")
    text = (parser.parse_args().data / "text" / "tiny_stories_test.txt").read_text()
    lines = [
        "| format | bits nominal | actual | file, MB | perplexity |",
        "| --- | --- | --- | --- | --- |",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for name in FORMATS:
            lines.append(row(name, text, Path(folder)))
            print(lines[-1], file=sys.stderr)
    insert(MODEL / "README.md", "quantized", "\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
