"""Nanoseconds a weight of a product of rows with one vector, builds of the engine side by side in Chromium.

    python build/bench/compare_builds.py before=OTHER/web/ruvq-relaxed.wasm after=web/ruvq-relaxed.wasm
    python build/bench/compare_builds.py plain=web/ruvq.wasm relaxed=web/ruvq-relaxed.wasm --formats pi-t3

The builds take turns, one thread, and the least time of each is printed: a machine that is busy with other
work only adds to it. Results that differ in a bit are an error. The table goes to standard error, JSON to
standard output.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).resolve().parent), str(ROOT / "build"), str(ROOT / "py")]

import numpy as np  # noqa: E402

from page import browser_page  # noqa: E402
from random_models import random_rows  # noqa: E402
from ruvq import formats  # noqa: E402

ROWS, WIDTHS = 512, (2048, 576)
# ggml's blocks: weights, bytes, where the f16 scales stand
GGML = {
    "q4_0": (32, 18, (0,)),
    "q5_0": (32, 22, (0,)),
    "q2_k": (256, 84, (80, 82)),
    "q3_k": (256, 110, (108,)),
    "q4_k": (256, 144, (0, 2)),
    "q5_k": (256, 176, (0, 2)),
    "q6_k": (256, 210, (208,)),
}
FORMATS = ("pi-t3", "pi-t2", "pi-x3", "pi-x2", "pi-q3", "ternary", "q8_0", *GGML)


def rows_of(name: str, rows: int, width: int) -> np.ndarray | None:
    """Bytes of random rows, or None where the format can't hold the width."""
    rng = np.random.default_rng(1)
    if name not in GGML:
        return random_rows(name, rows, width, rng)
    weights, nbytes, scales = GGML[name]
    if width % weights:
        return None
    blocks = rng.integers(0, 256, (rows * width // weights, nbytes), np.uint8)
    for at in scales:
        blocks[:, at + 1] = 0x20 | blocks[:, at + 1] & 7  # small and finite
    return blocks


def specs_of(names: list[str], folder: Path) -> list[dict[str, Any]]:
    """What bench-builds.js needs to know of every format and width."""
    specs = []
    for name in names:
        for width in WIDTHS:
            data = rows_of(name, ROWS, width)
            if data is None:
                continue
            path = folder / f"compare-{name}-{width}.bin"
            path.write_bytes(data.tobytes())
            entry = formats.get(name)
            specs.append(
                {"name": name, "id": entry.id, "url": f"/files/{path.name}", "rows": ROWS, "width": width}
            )
    return specs


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("builds", nargs="+", metavar="NAME=MODULE", help="modules without threads")
    parser.add_argument("--formats", nargs="+", default=list(FORMATS))
    parser.add_argument("--rounds", type=int, default=60, help="turns of each build (default 60)")
    options = parser.parse_args()
    folder = ROOT / "out" / "bench" / "files"
    folder.mkdir(parents=True, exist_ok=True)
    builds = {}
    for pair in options.builds:
        name, _, module = pair.partition("=")
        if not module or not Path(module).is_file():
            parser.error(f"expected NAME=MODULE with a file, got {pair!r}")
        shutil.copy(module, folder / f"build-{name}.wasm")
        builds[name] = f"/files/build-{name}.wasm"
    spec = {"builds": builds, "formats": specs_of(options.formats, folder), "rounds": options.rounds}
    with browser_page(folder) as (page, version):
        script = "async (spec) => (await import('/bench-builds.js')).compare(spec)"
        report = page.evaluate(script, spec)
    print(f"Chromium {version}, ns a weight", file=sys.stderr)
    print(f"{'':18}" + "".join(f"{name:>14}" for name in builds), file=sys.stderr)
    for label, figures in report.items():
        print(f"{label:18}" + "".join(f"{figures[name]:14.4f}" for name in builds), file=sys.stderr)
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
