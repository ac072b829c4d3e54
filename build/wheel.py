"""Builds both wheels into out/wheels: the pure one that Pyodide installs and the native one of this desktop.

    python build/wheel.py [--kind pure|native|both]

Quick when nothing has changed: a wheel is rebuilt only when a file that goes into it is newer.
Prints each wheel's path and size; fails when the pure wheel is larger than its budget.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(Path(__file__).resolve().parent))
WHEELS = ROOT / "out" / "wheels"
PURE_BUDGET = 640_000  # bytes: what a page may have to download; the aim is 600_000


def inputs(kind: str) -> list[Path]:
    """Every file whose change means a new wheel."""
    files = [*list((ROOT / "py").rglob("*.py")), ROOT / "pyproject.toml", ROOT / "build" / "hatch_hook.py"]
    if kind == "pure":
        files += [p for p in (ROOT / "web").iterdir() if p.suffix in (".js", ".wasm")]
    else:
        files += list((ROOT / "py" / "ruvq" / "core" / "_native").glob("*"))
    return files


def find(kind: str) -> Path | None:
    """The wheel of a kind that was built before."""
    wheels = sorted(WHEELS.glob("ruvq-*.whl"), key=lambda p: p.stat().st_mtime)
    wheels = [w for w in wheels if w.name.endswith("-none-any.whl") == (kind == "pure")]
    return wheels[-1] if wheels else None


def build(kind: str) -> Path:
    """Builds one wheel where it is stale; its path."""
    built = find(kind)
    if built and built.stat().st_mtime >= max(p.stat().st_mtime for p in inputs(kind)):
        return built
    WHEELS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=WHEELS) as folder:
        command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder]
        subprocess.run(
            command, cwd=ROOT, env={**os.environ, "RUVQ_WHEEL": kind}, check=True, stdout=sys.stderr
        )
        (fresh,) = Path(folder).glob("*.whl")
        for old in WHEELS.glob("ruvq-*.whl"):
            if old.name.endswith("-none-any.whl") == (kind == "pure"):
                old.unlink()
        return fresh.rename(WHEELS / fresh.name)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kind", choices=("pure", "native", "both"), default="both")
    kind = parser.parse_args().kind
    for one in ("pure", "native") if kind == "both" else (kind,):
        wheel = build(one)
        size = wheel.stat().st_size
        print(f"{wheel.relative_to(ROOT)}  {size:,} bytes")
        if one == "pure" and size > PURE_BUDGET:
            print(f"the pure wheel is over its budget of {PURE_BUDGET:,} bytes", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
