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
from site_folder import TRAINED  # noqa: E402

MODEL = ROOT / "web" / "model"
FORMATS = ("f16", "q8_0", "pi-x3", "pi-t3", "pi-x2", "pi-t2", "pi-q3", "ternary")


def rows(name: str, text: str, folder: Path) -> list[str]:
    """The line of a format, and that of the file that training in it made of the model, if there is one."""
    path, trained = folder / f"{name}.gguf", MODEL / TRAINED.format(kind=name)
    report = ruvq.quantize_model(MODEL, path, name, progress=False)
    bits = f"{report.bits_per_weight:.2f} | {report.bits_per_weight_actual:.2f}"
    found = [measured(name, bits, path, text)]
    return [*found, measured(f"{name}, trained", bits, trained, text)] if trained.is_file() else found


def measured(name: str, bits: str, path: Path, text: str) -> str:
    """The line of a file."""
    with ruvq.Model.open(path, kv="f32" if name == "f16" else "f16") as model:
        found = perplexity(model, text)
    return f"| {name} | {bits} | {path.stat().st_size / 1e6:.2f} | {float(found):.2f} ± {found.stderr:.2f} |"


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
            found = rows(name, text, Path(folder))
            print(*found, sep="\n", file=sys.stderr)
            lines += found
    insert(MODEL / "README.md", "quantized", "\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
