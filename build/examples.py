"""Puts the examples together with what they load, in one folder to serve.

    python build/examples.py --model model.gguf [--to out/examples]
    ruvq serve --dir out/examples

The pages want ruvq.js, PyScript and Pyodide beside them; all come from `make wheel` and `npm ci`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(Path(__file__).resolve().parent))


def assemble(target: Path, model: Path) -> None:
    """Fills `target`; files that are there are replaced."""
    import hatch_hook
    import pyodide_dist

    target.mkdir(parents=True, exist_ok=True)
    for source in (ROOT / "examples").iterdir():
        if source.is_file():
            shutil.copyfile(source, target / source.name)
    for source in [*hatch_hook.web_runtime(ROOT / "web"), ROOT / "web" / "ruvq-threads.wasm"]:
        shutil.copyfile(source, target / source.name)
    pyscript = ROOT / "node_modules" / "@pyscript" / "core" / "dist"
    shutil.copytree(pyscript, target / "pyscript", dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.map"))
    pyodide_dist.assemble(target / "pyodide")
    shutil.copyfile(model, target / "model.gguf")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="the GGUF file that the pages load")
    parser.add_argument("--to", type=Path, default=ROOT / "out" / "examples", help="folder to fill")
    args = parser.parse_args()
    assemble(args.to, args.model)
    print(f"ruvq serve --dir {args.to}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
