"""Fetches the public files that tests and measurements read, each checked by its SHA-256.

    python build/data.py --to ../shared/data            fetch what is missing
    python build/data.py --to DIR --base http://...     from a mirror that has REPO/COMMIT/PATH
    python build/data.py --table                        write the table of docs/data.md

A file that is there with the right digest is left alone; a download goes to a temporary name, is
checked and then renamed. Files marked as derived were made by hand from the source named; they can't be
fetched as they are and are listed at the end.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MANIFEST = ROOT / "build" / "data_manifest.json"
PAGE = ROOT / "docs" / "data.md"
BASE = "https://raw.githubusercontent.com"
BEGIN, END = "<!-- table: python build/data.py --table -->", "<!-- end of table -->"
TIMEOUT = 30  # seconds without a byte


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(entry: dict[str, Any], folder: Path, base: str) -> str | None:
    """Fetches one file; None, or what went wrong."""
    target = folder / entry["file"]
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    url = f"{base}/{entry['repo']}/{entry['commit']}/{urllib.parse.quote(entry['path'])}"
    sha, length = hashlib.sha256(), 0
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, part.open("wb") as out:
            # one byte more than the file has shows that the answer is something else
            while length <= entry["bytes"] and (piece := answer.read(1 << 16)):
                out.write(piece)
                sha.update(piece)
                length += len(piece)
    except (urllib.error.URLError, OSError) as error:
        part.unlink(missing_ok=True)
        return f"{url}: {error}"
    if sha.hexdigest() != entry["sha256"]:
        part.unlink()
        wanted = f"{entry['bytes']} bytes of sha256 {entry['sha256']}"
        return f"{url}: expected {wanted}, found {length} of {sha.hexdigest()}"
    part.replace(target)
    return None


def table(entries: list[dict[str, Any]]) -> str:
    """The Markdown table of docs/data.md."""
    rows = ["| file | source | licence | bytes | sha256 |", "| --- | --- | --- | ---: | --- |"]
    for e in entries:
        source = e["path"] if e["repo"] == "(derived)" else f"{e['repo']} @ {e['commit'][:10]}: {e['path']}"
        note = " (derived)" if e["derived"] else ""
        rows.append(f"| `{e['file']}` | {source}{note} | {e['license']} | {e['bytes']} | `{e['sha256']}` |")
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--to", type=Path, help="the folder of the data")
    parser.add_argument(
        "--base", default=BASE, help="where REPO/COMMIT/PATH is served (default: %(default)s)"
    )
    parser.add_argument("--table", action="store_true", help="rewrite the table of docs/data.md and stop")
    options = parser.parse_args()
    entries = json.loads(MANIFEST.read_text())
    if options.table:
        before, rest = PAGE.read_text().split(BEGIN)
        PAGE.write_text(before + BEGIN + "\n" + table(entries) + "\n" + END + rest.split(END)[1])
        return 0
    if options.to is None:
        parser.error("--to is needed")
    failures, derived = [], []
    for number, entry in enumerate(entries, 1):
        path = options.to / entry["file"]
        if path.is_file() and digest(path) == entry["sha256"]:
            continue
        if entry["derived"]:
            derived.append(entry["file"])
            continue
        print(f"[{number}/{len(entries)}] {entry['file']} ({entry['bytes']:,} bytes)", file=sys.stderr)
        if problem := fetch(entry, options.to, options.base):
            failures.append(problem)
    if not failures and not derived and not (options.to / "MANIFEST.json").exists():
        (options.to / "MANIFEST.json").write_text(MANIFEST.read_text())  # what the tests know the folder by
    for problem in failures:
        print(f"not fetched: {problem}", file=sys.stderr)
    for name in derived:
        print(f"not fetched: {name}: derived by hand, docs/data.md says from what", file=sys.stderr)
    return 1 if failures or derived else 0


if __name__ == "__main__":
    sys.exit(main())
