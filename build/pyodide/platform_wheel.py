"""Builds the wheel that carries the core as a side module for Pyodide's own heap, with `pyodide build`.

    python build/pyodide/platform_wheel.py --to out/wheels

pyodide-build wants a cross-build environment: what a package compiles and links against. It can't be
downloaded everywhere, and this wheel needs nothing of it: the side module is there already, from `make`,
and touches no header of Python. So the environment is made here, out of npm's `pyodide`: its versions, its
ABI and the build-time variables of its standard library. `--environment FOLDER` takes a real one instead.

pyodide-build needs Python 3.12 or newer; Debian 12 has 3.11. Where there is none, hatchling runs the same
build hook alone, which makes the same wheel.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "out" / "pyodide-build"
PYODIDE_BUILD = "0.39.2"
NPM = ROOT / "node_modules" / "pyodide-0.29"
# one side module runs in both: it uses malloc and free only
ABIS = ("2025_0", "2026_0")
PLATFORMS = ".".join(f"pyemscripten_{abi}_wasm32" for abi in ABIS)

Command = list[str | Path]

# what pyodide-build asks of an environment by way of make
MAKEFILE = """\
export PYODIDE_ABI_VERSION={abi}
export PYODIDE_EMSCRIPTEN_VERSION={emscripten}
export PYVERSION={python}
export PYMAJOR={major}
export PYMINOR={minor}
export PYMICRO={micro}
export PLATFORM_TRIPLET=wasm32-emscripten
export SYSCONFIG_NAME={sysconfig}
export TARGETINSTALLDIR={folder}
export CPYTHONINSTALL={folder}
export PYTHONINCLUDE={folder}/include
export CFLAGS_BASE=
export LDFLAGS_BASE=
.output_vars:
\tenv
"""


def python_for_pyodide_build() -> str | None:
    """A Python that pyodide-build runs on: this one, one on PATH, or one of pyenv's."""
    names = [f"python3.{minor}" for minor in (13, 14, 12)]
    paths = [sys.executable, *filter(None, map(shutil.which, names))]
    paths += sorted(str(p) for p in Path.home().glob(".pyenv/versions/3.1[2-9]*/bin/python3"))
    check = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 12))"
    for path in paths:  # a shim on PATH may stand for a Python that isn't there
        if subprocess.run([path, "-c", check], capture_output=True).returncode == 0:
            return path
    return None


def tool_environment() -> Path | None:
    """The bin folder of a virtual environment with pyodide-build, made once; None without Python 3.12."""
    folder = WORK / f"venv-{PYODIDE_BUILD}"
    done = folder / ".done"
    if not done.is_file():
        python = python_for_pyodide_build()
        if python is None:
            return None
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([python, "-m", "venv", str(folder)], check=True)
        packages = [f"pyodide-build=={PYODIDE_BUILD}", "hatchling>=1.25"]
        pip: Command = [
            folder / "bin" / "python",
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ]
        subprocess.run([*pip, *packages], check=True)
        done.touch()
    return folder / "bin"


def make_environment(python: str) -> Path:
    """A cross-build environment for `pyodide build` under the host Python `python` ("3.13")."""
    lock = json.loads((NPM / "pyodide-lock.json").read_text())["info"]
    folder = WORK / "environment"
    shutil.rmtree(folder, ignore_errors=True)
    version = folder / "xbuildenv"
    root = version / "xbuildenv" / "pyodide-root"
    target = root / "target"
    (target / "sysconfigdata").mkdir(parents=True)
    (target / "include").mkdir()
    with zipfile.ZipFile(NPM / "python_stdlib.zip") as library:
        (name,) = [n for n in library.namelist() if Path(n).name.startswith("_sysconfigdata_")]
        (target / "sysconfigdata" / Path(name).name).write_bytes(library.read(name))
    major, minor, micro = lock["python"].split(".")
    makefile = MAKEFILE.format(
        abi=lock["abi_version"],
        emscripten=lock["platform"].removeprefix("emscripten_").replace("_", "."),
        python=lock["python"],
        major=major,
        minor=minor,
        micro=micro,
        sysconfig=Path(name).stem,
        folder=target,
    )
    (root / "Makefile.envs").write_text(makefile)
    (version / "xbuildenv" / "requirements.txt").write_text("")
    # the host's Python need not be Pyodide's: nothing is compiled against either
    (version / ".build-python-version").write_text(python)
    return folder


def with_pyodide_build(tools: Path, environment: Path | None, folder: Path) -> Path:
    """The wheel out of `pyodide build`, tagged for both ABIs."""
    version = "import sys; print('%d.%d' % sys.version_info[:2])"
    python = subprocess.run([tools / "python", "-c", version], capture_output=True, text=True, check=True)
    environment = environment or make_environment(python.stdout.strip())
    variables = {
        **os.environ,
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "RUVQ_WHEEL": "pyodide",
        "PYODIDE_XBUILDENV_PATH": str(environment),
        "SKIP_EMSCRIPTEN_VERSION_CHECK": "1",
    }
    command: Command = [
        tools / "pyodide",
        "build",
        "--no-isolation",
        "--skip-dependency-check",
        "--outdir",
        folder,
    ]
    try:
        subprocess.run(command, cwd=ROOT, env=variables, check=True, stdout=sys.stderr)
    finally:
        shutil.rmtree(ROOT / ".pyodide_build", ignore_errors=True)  # its compiler wrappers
    (wheel,) = folder.glob("*.whl")
    # pyodide-build leaves the tag of its own ABI only
    retag: Command = [tools / "python", "-m", "wheel", "tags", "--remove", "--platform-tag", PLATFORMS, wheel]
    subprocess.run(retag, check=True, stdout=sys.stderr)
    (wheel,) = folder.glob("*.whl")
    return wheel


def with_hatchling(folder: Path) -> Path:
    """The same wheel without pyodide-build."""
    print("no Python 3.12 for pyodide-build: hatchling builds the platform wheel alone", file=sys.stderr)
    command: Command = [
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "--target",
        "wheel",
        "--directory",
        folder,
    ]
    subprocess.run(
        command, cwd=ROOT, env={**os.environ, "RUVQ_WHEEL": "pyodide"}, check=True, stdout=sys.stderr
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


def build(folder: Path, environment: Path | None = None) -> Path:
    """Builds the platform wheel into the empty folder `folder`; its path."""
    tools = tool_environment()
    return with_pyodide_build(tools, environment, folder) if tools else with_hatchling(folder)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--to", type=Path, default=ROOT / "out" / "wheels")
    parser.add_argument("--environment", type=Path, help="a cross-build environment of `pyodide xbuildenv`")
    options = parser.parse_args()
    options.to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.to) as folder:
        wheel = build(Path(folder), options.environment)
        print(wheel.replace(options.to / wheel.name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
