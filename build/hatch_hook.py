"""Hatch build hook: what goes into a wheel beside the Python files, by the variable RUVQ_WHEEL.

pure     py3-none-any: the WebAssembly module and the JavaScript that drives it, for Pyodide; no command line
native   py3-none-<platform>: the native library, for this desktop
pyodide  py3-none-pyemscripten_*: the side module for Pyodide's own heap beside what the pure wheel has
unset    nothing (an editable install uses what `make native` built)
"""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# All builds would take a wheel over its budget. Without relaxed SIMD there is one thread; and the platform
# wheel, whose side module does in Pyodide's thread what ruvq-relaxed does, leaves that out.
MODULES = {
    "pure": ("ruvq", "ruvq-relaxed", "ruvq-threads-relaxed"),
    "pyodide": ("ruvq", "ruvq-threads-relaxed"),
}
DESKTOP_QUANTIZE = (
    "calibration", "feedback", "sequential", "draft", "float_model",
    "rotation", "assignment", "sensitivity", "target",
)  # fmt: skip
SIDE_MODULE = "ruvq/core/_side/ruvq-relaxed.wasm"
# both Pyodides' ABIs: the side module uses nothing in which they differ
PYODIDE_TAG = "py3-none-pyemscripten_2025_0_wasm32.pyemscripten_2026_0_wasm32"


def web_runtime(web: Path, names: tuple[str, ...] = MODULES["pure"]) -> list[Path]:
    """The WebAssembly modules and the runtime's JavaScript; what only pages need stays out."""
    found = {*web.glob("*.js"), web / "jinja.js"}  # the copy of a package: missed where it wasn't made
    scripts = [p for p in sorted(found) if not p.stem.startswith(("bench", "coi-"))]
    return [*(web / f"{name}.wasm" for name in names), *scripts]


def files_of(kind: str, root: Path) -> dict[str, str]:
    """Path in the checkout → path in the wheel."""
    if kind in MODULES:
        runtime = web_runtime(root / "web", MODULES[kind])
        smaller = root / "out" / "wheel-js"  # the scripts without comments and white space
        files = {
            str(smaller / path.name if path.suffix == ".js" else path): f"ruvq/browser/_web/{path.name}"
            for path in runtime
        }
        return files | ({str(root / "py" / SIDE_MODULE): SIDE_MODULE} if kind == "pyodide" else {})
    folder = root / "py" / "ruvq" / "core" / "_native"
    return {
        str(path): f"ruvq/core/_native/{path.name}" for path in folder.iterdir() if path.suffix != ".part"
    }


class CustomBuildHook(BuildHookInterface):
    """Adds the built files and sets the tag."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        kind = os.environ.get("RUVQ_WHEEL")
        if version == "editable" or kind is None:
            return
        files = files_of(kind, Path(self.root))
        absent = [path for path in files if not Path(path).is_file()]
        if absent or not files:
            raise FileNotFoundError(
                f"build these first (`make native wasm`): {', '.join(absent) or 'the native library'}"
            )
        build_data["force_include"].update(files)
        if kind in MODULES:
            # what a page need not download: it has no command line, reads no ONNX, doesn't train, calibrate,
            # measure, export or convert adapters, and keeps no unfinished work
            left_out = self.build_config.target_config.setdefault("exclude", [])
            folders = ("adapters", "cli", "calibrate", "evaluate", "train", "export")
            left_out += [f"py/ruvq/{name}" for name in folders]
            left_out += ["py/ruvq/sources/onnx_*.py", "py/ruvq/sources/protobuf.py"]
            left_out += ["py/ruvq/settings_file.py", "py/ruvq/gguf/journal.py"]
            left_out += ["py/ruvq/core/_cffi_abi.py", "py/ruvq/core/native.py"]
            left_out += [f"py/ruvq/quantize/{name}.py" for name in DESKTOP_QUANTIZE]
        if kind == "pure":
            build_data["tag"] = "py3-none-any"
        elif kind == "pyodide":
            build_data["pure_python"] = False
            build_data["tag"] = PYODIDE_TAG
        else:
            platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{platform}"
