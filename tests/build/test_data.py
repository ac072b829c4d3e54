"""`make data` against a local server that speaks the same addresses: REPO/COMMIT/PATH."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

ENTRIES = json.loads((Path(__file__).resolve().parents[2] / "build" / "data_manifest.json").read_text())
DIRECT = [e for e in ENTRIES if not e["derived"]]


@pytest.fixture
def mirror(data_dir: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """(address, path → bytes to answer instead)."""
    files = {f"/{e['repo']}/{e['commit']}/{e['path']}": data_dir / e["file"] for e in DIRECT}
    wrong: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = unquote(self.path)
            body = wrong.get(path) or (files[path].read_bytes() if path in files else None)
            self.send_response(200 if body is not None else 404)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", wrong
    server.shutdown()


def fetch(repository: Path, to: Path, base: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "build/data.py", "--to", str(to), "--base", base]
    return subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)


def test_every_public_file_is_fetched_once_and_checked(
    repository: Path, tmp_path: Path, mirror: tuple[str, dict[str, bytes]]
) -> None:
    first = fetch(repository, tmp_path, mirror[0])
    for entry in DIRECT:
        found = hashlib.sha256((tmp_path / entry["file"]).read_bytes()).hexdigest()
        assert found == entry["sha256"], entry["file"]
    derived = [e["file"] for e in ENTRIES if e["derived"]]
    assert first.returncode == 1  # files that can't be fetched are not passed over in silence
    assert all(name in first.stderr for name in derived)
    assert not (tmp_path / "MANIFEST.json").exists()
    assert "[" not in fetch(repository, tmp_path, mirror[0]).stderr  # nothing is fetched twice


def test_a_wrong_answer_leaves_nothing_behind(
    repository: Path, tmp_path: Path, mirror: tuple[str, dict[str, bytes]]
) -> None:
    entry = DIRECT[0]
    mirror[1][f"/{entry['repo']}/{entry['commit']}/{entry['path']}"] = b"<!DOCTYPE html>" * 100000
    run = fetch(repository, tmp_path, mirror[0])
    assert run.returncode == 1
    assert f"expected {entry['bytes']} bytes of sha256 {entry['sha256']}" in run.stderr
    assert not (tmp_path / entry["file"]).exists()
    assert not list(tmp_path.rglob("*.part"))


def test_a_complete_folder_is_left_as_it_is(repository: Path, data_dir: Path) -> None:
    before = (data_dir / "MANIFEST.json").stat()
    run = fetch(repository, data_dir, "http://127.0.0.1:9")
    assert run.returncode == 0, run.stderr
    after = (data_dir / "MANIFEST.json").stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)
