"""What a token costs when many stand before it, natively and in Chromium: milliseconds of a decoded token.

    python build/bench/context.py [--format pi-t2] [--shape M] [--contexts 128 1024 4096] [--threads 1 2]

Random weights (random_models.py); the median of 16 tokens after a text of each length. token_profile.py says
how much of it is attention. The table goes to standard error, JSON to standard output.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).resolve().parent), str(ROOT / "build"), str(ROOT / "py")]

from page import browser_page  # noqa: E402
from random_models import SHAPES  # noqa: E402
from ruvq import formats  # noqa: E402
from scaling import by_context  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--format", default="pi-t2")
    parser.add_argument("--shape", default="M", choices=sorted(SHAPES))
    parser.add_argument("--contexts", nargs="+", type=int, default=[128, 1024, 4096])
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    options = parser.parse_args()
    folder = ROOT / "out" / "bench" / "files"
    folder.mkdir(parents=True, exist_ok=True)
    name, lengths = formats.get(options.format).name, tuple(sorted(options.contexts))
    with browser_page(folder) as (page, _):
        entries = by_context(page, folder, options.shape, lengths, options.threads, name)
    for entry in entries:
        entry["token_ms"] = 1000 / entry["decode_tokens_per_s"]
        where = f"{entry['host']:8} {entry['threads']} thread(s) after {entry['context']:5} tokens"
        print(f"{where}: {entry['token_ms']:6.2f} ms", file=sys.stderr)
    print(json.dumps(entries))
    return 0


if __name__ == "__main__":
    sys.exit(main())
