"""Every encoder under sanitizers: no access outside, nothing undefined, whatever the weights.

Encoders have no variants, so this is the build without SIMD, which compiles sooner."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest


@pytest.mark.slow
def test_awkward_weights_are_encoded_cleanly(repository: Path, tmp_path: Path) -> None:
    program = tmp_path / "encode_stress"
    folders = (repository / "wasm_kernels" / name for name in ("base", "formats"))
    sources = [repository / "tests/formats/encode_stress.c", *(s for f in folders for s in f.glob("*.c"))]
    flags = ["-std=c11", "-O1", "-g", "-ffp-contract=off", f"-I{repository / 'out/generated'}"]
    flags += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    compiler = os.environ.get("RUVQ_SANITIZER_CC", "clang-19")
    build = subprocess.run(
        [compiler, *flags, *map(str, sources), "-o", str(program)], capture_output=True, check=False
    )
    assert build.returncode == 0, build.stderr.decode()[-3000:]
    run = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "done\n"), run.stdout + run.stderr[-3000:]
