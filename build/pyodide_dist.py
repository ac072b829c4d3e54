"""Puts together what a page needs to start Pyodide and `micropip.install("ruvq")` without a CDN.

    python build/pyodide_dist.py --to out/pyodide

makes, from the npm packages and PyPI:
    out/pyodide/314.0.7/  out/pyodide/0.29.5/   Pyodide's core, micropip, a lock file that names both
    out/pyodide/simple/ruvq/index.html          a package index with ruvq's wheels for Pyodide
    out/pyodide/pure/ruvq/index.html            the same with the pure wheel alone
    out/pyodide/wheels/ruvq-*.whl

npm's `pyodide` holds the core only, so micropip comes from PyPI and the lock file is cut down to it: a
package that the lock names but nobody serves would make an install succeed and the import fail.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from alone import alone
from wheel import kind_of

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "out" / "pyodide"
PACKAGES = {"314.0.7": "pyodide", "0.29.5": "pyodide-0.29"}  # version: folder in node_modules
CORE_FILES = (
    "pyodide.mjs",
    "pyodide.js",
    "pyodide.asm.mjs",
    "pyodide.asm.js",
    "pyodide.asm.wasm",
    "python_stdlib.zip",
)
MICROPIP = ("0.11.1", "768de165adb8e66906039d8fec4127a57f522dfdf8e6fbff877a4616941ecfd3")


def micropip_wheel() -> Path:
    """micropip's wheel from PyPI, fetched once and checked."""
    version, digest = MICROPIP
    folder = ROOT / "out" / "downloads"
    wheel = folder / f"micropip-{version}-py3-none-any.whl"
    if not wheel.is_file():
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
        ]
        # micropip asks for the Python that Pyodide has, not for this one
        command += [
            "--only-binary=:all:",
            "--python-version",
            "3.14",
            "--dest",
            str(folder),
            f"micropip=={version}",
        ]
        subprocess.run(command, check=True)
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != digest:
        wheel.unlink()
        raise SystemExit(f"{wheel.name}: expected sha256 {digest}, found {found}; deleted it, run this again")
    return wheel


def copy_if_newer(source: Path, target: Path) -> None:
    """Copies under a temporary name and renames, so that a killed run leaves nothing half-written."""
    if target.exists() and target.stat().st_mtime >= source.stat().st_mtime:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    shutil.copyfile(source, part)
    part.replace(target)


def assemble_core(version: str, folder: Path) -> None:
    """One Pyodide with micropip beside it."""
    package = ROOT / "node_modules" / PACKAGES[version]
    if not (package / "pyodide.asm.wasm").is_file():
        raise SystemExit(f"{package} is not there: run `make setup`")
    for name in CORE_FILES:
        if (package / name).is_file():
            copy_if_newer(package / name, folder / name)
    wheel = micropip_wheel()
    copy_if_newer(wheel, folder / wheel.name)
    lock = json.loads((package / "pyodide-lock.json").read_text())
    entry = {**lock["packages"]["micropip"], "file_name": wheel.name, "sha256": MICROPIP[1]}
    lock["packages"] = {"micropip": entry}
    write(folder / "pyodide-lock.json", json.dumps(lock))


def for_quick_start(folder: Path, version: str) -> None:
    """Adds to what `assemble` made what the site's pages start from, without micropip and its index: ruvq in
    the lock file, and the snapshot."""
    (wheel,) = [p for p in (folder / "wheels").iterdir() if kind_of(p) == "pyodide"]
    path = folder / version / "pyodide-lock.json"
    lock = json.loads(path.read_text())
    lock["packages"]["ruvq"] = lock_entry(wheel)
    write(path, json.dumps(lock))
    make_snapshot(folder / version)


def lock_entry(wheel: Path) -> dict[str, Any]:
    """What a lock file beside `../wheels` says of ruvq."""
    name, version = wheel.name.split("-")[:2]
    return {
        "name": name,
        "version": version,
        "file_name": f"../wheels/{wheel.name}",
        "install_dir": "site",
        "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "package_type": "package",
        "imports": [name],
        "depends": [],
        "unvendored_tests": False,
    }


def assemble_index(folder: Path) -> None:
    """A package index (PEP 503) with the wheels for Pyodide: micropip takes the platform wheel where its tag
    fits, else the pure one."""
    wheels = [p for p in sorted((ROOT / "out" / "wheels").glob("ruvq-*.whl")) if kind_of(p) != "native"]
    if {kind_of(p) for p in wheels} != {"pure", "pyodide"}:
        raise SystemExit("out/wheels lacks a wheel for Pyodide: run `make wheel`")
    for wheel in wheels:
        copy_if_newer(wheel, folder / "wheels" / wheel.name)
    for old in (folder / "wheels").iterdir():
        if old.name not in {wheel.name for wheel in wheels}:
            old.unlink()
    write_page(folder / "simple" / "ruvq" / "index.html", wheels)
    # for those who want the pure wheel: tests, and the comparison of the two
    write_page(folder / "pure" / "ruvq" / "index.html", [p for p in wheels if kind_of(p) == "pure"])


def write_page(page: Path, wheels: list[Path]) -> None:
    """A project's page of an index, two folders below the wheels' own."""
    links = []
    for wheel in wheels:
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        links.append(f'<a href="../../wheels/{wheel.name}#sha256={digest}">{wheel.name}</a>')
    write(page, f"<!DOCTYPE html><html><body>{'<br>'.join(links)}</body></html>\n")


def write(path: Path, text: str) -> None:
    """Under a temporary name first: tests have links to the file that stood there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.replace(path)


def make_snapshot(folder: Path) -> None:
    """A booted Pyodide's memory beside its core, from which a page starts in a fraction of the time."""
    target, script = folder / "snapshot.bin", ROOT / "build" / "pyodide" / "snapshot.mjs"
    made_from = [script, folder / "pyodide.asm.wasm", folder / "python_stdlib.zip"]
    if target.exists() and all(target.stat().st_mtime >= p.stat().st_mtime for p in made_from):
        return
    subprocess.run(["node", str(script), str(target)], check=True, cwd=ROOT)


def assemble(folder: Path, versions: tuple[str, ...] = tuple(PACKAGES)) -> None:
    """Everything into `folder`; quick when nothing has changed."""
    with alone("pyodide"):
        _assemble(folder, versions)


def assemble_links(folder: Path, versions: tuple[str, ...] = tuple(PACKAGES)) -> None:
    """Everything into out/pyodide, and links to it into `folder`, which must not exist."""
    with alone("pyodide"):
        _assemble(OUT, versions)
        shutil.copytree(OUT, folder, copy_function=os.link)


def _assemble(folder: Path, versions: tuple[str, ...]) -> None:
    for version in versions:
        assemble_core(version, folder / version)
    assemble_index(folder)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--to", type=Path, default=OUT)
    assemble(parser.parse_args().to)
    return 0


if __name__ == "__main__":
    sys.exit(main())
