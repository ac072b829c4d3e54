"""`ruvq doctor`: what works on this machine, what is missing, and how to get it."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import RuvqError
from ..version import __version__
from .files import available_memory

EXAMPLES = """  ruvq doctor
  ruvq doctor --json"""
ASK_SECONDS = 20  # to wait for another program's version
CPU_FEATURES = ("sse4_1", "avx", "avx2", "fma", "avx512f", "avx512vnni", "avx_vnni", "neon", "asimddp")
MIN_NODE = (18, 18)
MIN_MEMORY = 512 << 20


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `needed`: ruvq can't do its work without it; `hint`: how to get what is
    missing."""

    name: str
    ok: bool
    found: str
    needed: bool = False
    hint: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No flags beside those of every command."""


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Looks; exit code 5 when something that is needed is missing or doesn't work."""
    from .main import NOT_INSTALLED

    findings = list(examine())
    if not args.json:
        width = max(len(f.name) for f in findings)
        for f in findings:
            mark = "ok" if f.ok else "MISSING" if f.needed else "-"
            print(
                f"{mark:<8}{f.name:<{width}}  {f.found}" + (f"\n{'':{width + 10}}{f.hint}" if f.hint else "")
            )
    ok = all(f.ok for f in findings if f.needed)
    return {
        "ok": ok,
        "version": __version__,
        "findings": [asdict(f) for f in findings],
        "exit_code": 0 if ok else NOT_INSTALLED,
    }


def examine() -> Iterator[Finding]:
    """Everything, in the order in which it matters."""
    yield Finding("ruvq", True, f"{__version__} in {Path(__file__).parents[1]}")
    yield Finding("python", sys.version_info >= (3, 11), platform.python_version(), True)
    yield Finding("system", True, f"{platform.system()} {platform.release()}, {platform.machine()}")
    yield _native_library()
    yield _cpu()
    yield _threads()
    yield _memory()
    for name in ("cffi", "gguf", "numpy", "tqdm", "jinja2"):
        yield _package(name, True, "pip install ruvq brings it")
    for name, extra, use in (
        ("brotli", "serve", "smaller downloads from `ruvq serve`; gzip serves without it"),
        ("tokenizers", "dev", "a second opinion on tokenizers when converting"),
        ("safetensors", "dev", "for the tests; ruvq reads safetensors by itself"),
        ("playwright", "bench", "to drive a browser in tests and benchmarks"),
        ("torch", "train", "training"),
        ("onnx", "onnx", "`ruvq export-onnx`; ONNX is read without it"),
    ):
        yield _package(name, False, f'pip install "ruvq[{extra}]": {use}')
    yield _browser()
    yield _node()
    for program, package, use in (
        ("clang-19", "clang-19", "to build the engine from source"),
        ("wasm-ld-19", "lld-19", "to build the WebAssembly modules"),
        ("emcc", "emscripten", "to check the build with Emscripten"),
        ("make", "make", "for every target of the Makefile"),
    ):
        yield _program(program, package, use)
    yield _site()


def _native_library() -> Finding:
    """Loading it runs the self-test of every kernel."""
    from .. import core

    try:
        core.get()
    except (RuvqError, OSError) as error:
        hint = "install the wheel of this platform, or build it in a checkout: make native"
        return Finding("native library", False, str(error)[:200], True, hint)
    from ..core.native import library_path

    size = library_path().stat().st_size
    return Finding("native library", True, f"{library_path()}, {size:,} bytes, self-test passed", True)


def _cpu() -> Finding:
    model, flags = platform.processor() or platform.machine(), set()
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return Finding("cpu", True, model)
    if name := re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE):
        model = name[1]
    for line in re.findall(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)[:1]:
        flags = set(line.split())
    has = [f for f in CPU_FEATURES if f in flags]
    hint = "" if "avx2" in flags or platform.machine() != "x86_64" else "without AVX2 the engine is slower"
    return Finding("cpu", True, f"{model}: {' '.join(has) or 'no vector extensions known'}", False, hint)


def _threads() -> Finding:
    from ..runtime.threads import choose, usable_cores

    chosen = choose(None, "native")
    return Finding("threads", True, f"{chosen} by default, {usable_cores()} cores, {os.cpu_count()} logical")


def _memory() -> Finding:
    free = available_memory()
    if free is None:
        return Finding("memory", True, "the system doesn't say")
    hint = "" if free >= MIN_MEMORY else "close other programs: small models need some hundred megabytes"
    return Finding("memory", free >= MIN_MEMORY, f"{free / 1e6:,.0f} MB available", False, hint)


def _package(name: str, needed: bool, hint: str) -> Finding:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, False, "not installed", needed, hint)
    return Finding(name, True, version, needed)


def _version_of(path: str) -> str:
    """First line of `path --version`; empty when it can't be asked."""
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=ASK_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout or done.stderr).strip().partition("\n")[0][:100]


def _browser() -> Finding:
    for name in ("chromium", "chromium-browser", "google-chrome", "firefox-esr", "firefox"):
        if path := shutil.which(name):
            return Finding("browser", True, f"{path}: {_version_of(path) or 'version unknown'}")
    return Finding(
        "browser", False, "none on the path", False, "apt-get install chromium: to run the page here"
    )


def _node() -> Finding:
    path = shutil.which("node")
    least = ".".join(map(str, MIN_NODE))
    hint = f"apt-get install nodejs npm: ruvq.js outside a page takes Node {least} or later"
    if path is None:
        return Finding("node", False, "not installed", False, hint)
    version = _version_of(path)
    good = tuple(int(n) for n in re.findall(r"\d+", version)[:2]) >= MIN_NODE
    return Finding("node", good, f"{path}: {version}", False, "" if good else hint)


def _program(name: str, package: str, use: str) -> Finding:
    path = shutil.which(name)
    return Finding(
        name,
        path is not None,
        path or "not installed",
        False,
        "" if path else f"apt-get install {package}: {use}",
    )


def _site() -> Finding:
    from .serve_command import built_site

    site = built_site()
    hint = "" if site else "make demo, in a checkout: the page that `ruvq serve` shows"
    return Finding("page", site is not None, str(site or "not built"), False, hint)
