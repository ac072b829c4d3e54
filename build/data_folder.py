"""The folder of test data that a measurement reads: its flag, and what is said where it isn't there."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def add_data(parser: argparse.ArgumentParser) -> None:
    """--data, by default RUVQ_DATA's folder or the one beside the checkout."""
    default = Path(os.environ.get("RUVQ_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=default, help="folder of the test data")


def lacks(folder: Path, part: str) -> bool:
    """Whether `part` of the data isn't there, and then says how to get it."""
    if (folder / part).is_dir():
        return False
    print(f"no data in {folder}: set RUVQ_DATA, or fetch it with `make data`", file=sys.stderr)
    return True
