"""What a table's pieces came to, one line of JSON each, so that it can be stopped and gone on with."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def read(path: Path) -> list[dict[str, Any]]:
    """The lines so far; none where there is no journal yet."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def add(path: Path, found: dict[str, Any]) -> None:
    """Appends a line, and shows it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(found) + "\n")
    print(json.dumps(found), file=sys.stderr, flush=True)
