"""Wheels deflated again hold what they held, in any zip reader and installer, and are built quickly again."""

from __future__ import annotations

import base64
import csv
import hashlib
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "build"))

import deflate  # noqa: E402

CONTENTS = {
    "tiny/__init__.py": b"value = 7\n" + b"# a line that repeats, and repeats\n" * 40,
    "tiny/data.bin": bytes(range(256)) * 3,
    "tiny/empty.py": b"",
    "tiny/ü.txt": "ü".encode() * 100,
    "tiny-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
    "tiny-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
}
RECORD = "tiny-1.0.dist-info/RECORD"


def digest(data: bytes) -> str:
    """As RECORD has it."""
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A wheel as zlib makes it, with a program among its files."""
    path = tmp_path / "tiny-1.0-py3-none-any.whl"
    record = "".join(f"{name},{digest(data)},{len(data)}\n" for name, data in CONTENTS.items())
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {**CONTENTS, RECORD: (record + f"{RECORD},,\n").encode()}.items():
            info = zipfile.ZipInfo(name, (2026, 1, 2, 3, 4, 6))
            info.external_attr = (0o100755 if name.endswith(".bin") else 0o100644) << 16
            archive.writestr(info, data, zipfile.ZIP_DEFLATED)
    return path


def members(path: Path) -> list[tuple[str, int, bytes]]:
    """Names, permissions and contents in the file's order."""
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return [(i.filename, i.external_attr, archive.read(i)) for i in archive.infolist()]


def check_record(path: Path) -> None:
    """Every member is in RECORD with its hash and size, and nothing else is."""
    held = {name: data for name, _, data in members(path)}
    (record,) = [name for name in held if name.endswith(".dist-info/RECORD")]
    rows = {name: (sha, size) for name, sha, size in csv.reader(held[record].decode().splitlines())}
    assert rows.pop(record) == ("", "")
    del held[record]
    assert rows == {name: (digest(data), str(len(data))) for name, data in held.items()}


def test_the_members_are_the_same_and_smaller(wheel: Path, tmp_path: Path) -> None:
    before, size = members(wheel), wheel.stat().st_size
    deflate.repack(wheel, tmp_path / "cache")
    assert members(wheel) == before
    assert wheel.stat().st_size < size
    check_record(wheel)
    with zipfile.ZipFile(wheel) as archive:
        for info in archive.infolist():
            assert info.date_time == (1980, 1, 1, 0, 0, 0)
            smaller = info.compress_size < info.file_size
            assert info.compress_type == (zipfile.ZIP_DEFLATED if smaller else zipfile.ZIP_STORED)
    assert {p.name for p in tmp_path.iterdir()} == {wheel.name, "cache"}


def test_the_same_members_give_the_same_bytes_with_and_without_a_cache(wheel: Path, tmp_path: Path) -> None:
    original = wheel.read_bytes()
    made = []
    for cache in ("one", "one", "other"):
        wheel.write_bytes(original)
        deflate.repack(wheel, tmp_path / cache)
        made.append(wheel.read_bytes())
    assert made[0] == made[1] == made[2]


def test_only_what_changed_is_deflated_again(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    deflate.repack(wheel, cache)
    with monkeypatch.context() as patch:
        patch.setattr(deflate, "ProcessPoolExecutor", None)  # nothing is left to do for it
        deflate.repack(wheel, cache)
    (damaged, *kept) = sorted(cache.iterdir())
    times = {path: path.stat().st_mtime_ns for path in kept}
    right = damaged.read_bytes()
    for wrong in (b"\xff" + right, right[:-1], deflate.deflate(b"something else")):
        damaged.write_bytes(wrong)
        deflate.repack(wheel, cache)
        assert damaged.read_bytes() == right
    assert {path: path.stat().st_mtime_ns for path in kept} == times


def test_a_wheel_that_would_not_read_back_leaves_the_old_one(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = wheel.read_bytes()
    monkeypatch.setattr(deflate, "archive_of", lambda members: wheel_without_first(before, tmp_path))
    with pytest.raises(RuntimeError, match="does not hold"):
        deflate.repack(wheel, tmp_path / "cache")
    assert wheel.read_bytes() == before


def wheel_without_first(data: bytes, folder: Path) -> bytes:
    """A right zip file that lacks a member."""
    (folder / "all.zip").write_bytes(data)
    with zipfile.ZipFile(folder / "all.zip") as old, zipfile.ZipFile(folder / "less.zip", "w") as less:
        for info in old.infolist()[1:]:
            less.writestr(info, old.read(info))
    return (folder / "less.zip").read_bytes()


def test_pip_installs_it(wheel: Path, tmp_path: Path) -> None:
    deflate.repack(wheel, tmp_path / "cache")
    target = tmp_path / "installed"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    subprocess.run([*command, "--target", str(target), str(wheel)], check=True)
    assert {name: (target / name).read_bytes() for name in CONTENTS if name.startswith("tiny/")} == {
        name: data for name, data in CONTENTS.items() if name.startswith("tiny/")
    }


@pytest.mark.parametrize("kind", ["-none-any", "_wasm32"])
def test_the_built_wheels_are_deflated_so(kind: str) -> None:
    """zlib at its best would make what `make wheel` built larger by 3 %."""
    (path,) = (ROOT / "out" / "wheels").glob(f"ruvq-*{kind}.whl")
    check_record(path)
    by_zlib = 0
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            by_zlib += min(info.file_size, len(zlib_stream(archive.read(info)))) - info.compress_size
    assert by_zlib > 0.03 * path.stat().st_size


def zlib_stream(data: bytes) -> bytes:
    """The raw deflate stream that zlib makes at its highest level."""
    return zlib.compress(data, 9, wbits=-zlib.MAX_WBITS)
