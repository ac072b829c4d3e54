"""Builds the wheels into out/wheels: two that Pyodide installs, and the native one of this desktop.

    python build/wheel.py [--kind pure|pyodide|native|all]

pure      py3-none-any: the stand-alone modules, driven through JavaScript; runs in any Pyodide
pyodide   the platform wheel, with the side module for Pyodide's own heap (build/pyodide)
native    for this desktop

What a page downloads, the first two, is deflated once more by zopfli (deflate.py).

Quick when nothing has changed: a wheel is rebuilt only when a file that goes into it is newer.
Prints each wheel's path and size; fails when one that a page downloads is larger than its budget.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "build"), str(ROOT / "build" / "pyodide")]

import deflate  # noqa: E402

WHEELS = ROOT / "out" / "wheels"
KINDS = ("pure", "pyodide", "native")
BUDGET = 600_000  # bytes: what a page may have to download


def inputs(kind: str) -> list[Path]:
    """Every file whose change means a new wheel."""
    hooks = (ROOT / "build").glob("hatch_*.py")
    files = [*list((ROOT / "py").rglob("*.py")), ROOT / "pyproject.toml", *hooks]
    core = ROOT / "py" / "ruvq" / "core"
    if kind == "native":
        return [*files, *(core / "_native").glob("*")]
    files += [p for p in (ROOT / "web").iterdir() if p.suffix in (".js", ".wasm")]
    if kind == "pyodide":
        files += [*(core / "_side").glob("*.wasm"), ROOT / "build" / "pyodide" / "platform_wheel.py"]
    return [*files, ROOT / "build" / "deflate.py"]


def kind_of(wheel: Path) -> str:
    """Told by the platform in its name."""
    platform = wheel.stem.rpartition("-")[2]
    return "pure" if platform == "any" else "pyodide" if platform.endswith("_wasm32") else "native"


def built(kind: str) -> list[Path]:
    """Wheels of a kind that were built before, the newest last."""
    wheels = sorted(WHEELS.glob("ruvq-*.whl"), key=lambda p: p.stat().st_mtime)
    return [w for w in wheels if kind_of(w) == kind]


def build(kind: str) -> Path:
    """Builds one wheel where it is stale; its path."""
    before = built(kind)
    if before and before[-1].stat().st_mtime >= max(p.stat().st_mtime for p in inputs(kind)):
        return before[-1]
    WHEELS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=WHEELS) as folder:
        fresh = build_fresh(kind, Path(folder))
        if kind != "native":
            deflate.repack(fresh)
        for old in before:
            old.unlink()
        return fresh.rename(WHEELS / fresh.name)


def build_fresh(kind: str, folder: Path) -> Path:
    """Builds one wheel into an empty folder."""
    if kind == "pyodide":
        import platform_wheel

        return platform_wheel.build(folder)
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "RUVQ_WHEEL": kind}, check=True, stdout=sys.stderr)
    (fresh,) = folder.glob("*.whl")
    return fresh


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kind", choices=(*KINDS, "all"), default="all")
    kind = parser.parse_args().kind
    for one in KINDS if kind == "all" else (kind,):
        wheel = build(one)
        size = wheel.stat().st_size
        print(f"{wheel.relative_to(ROOT)}  {size:,} bytes")
        if one != "native" and size > BUDGET:
            print(f"{wheel.name} is over its budget of {BUDGET:,} bytes", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
