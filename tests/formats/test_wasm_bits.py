"""The WebAssembly module, in Node, gives the same bytes as the native library."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from formats import kernels, oracle

WIDTHS = [1, 17, 43, 64, 129, 192, 256, 300, 512, 576, 1023]


@pytest.fixture(scope="module")
def module(repository) -> Path:
    path = repository / "web" / "ruvq.wasm"
    if not path.is_file():
        pytest.fail("web/ruvq.wasm is missing: run `make wasm`")
    return path


def run(module: Path, jobs: list[dict]) -> list:
    """The results of a list of calls."""
    script = Path(__file__).parent / "run_wasm.mjs"
    done = subprocess.run(["node", script, module], input=json.dumps(jobs), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_self_test_passes_in_webassembly(module):
    assert run(module, [{"call": "self_test"}]) == [0]


@pytest.mark.parametrize("variant", [kernels.SIMD, kernels.SCALAR])
def test_decoding_products_and_transforms_are_the_native_ones(module, variant):
    rng = np.random.default_rng(kernels.SEED)
    jobs, expected = [], []
    for name in oracle.FORMATS:
        for width in kernels.widths(name, WIDTHS):
            data = kernels.random_rows(name, 2, width, rng, extreme=width == 300)
            x = rng.normal(size=width).astype(np.float32)
            job = {
                "format": kernels.number(name),
                "data": data.hex(),
                "rows": 2,
                "width": width,
                "variant": variant,
            }
            jobs += [{"call": "decode", **job}, {"call": "matvec", "x": x.tobytes().hex(), **job}]
            expected += [kernels.decode(name, data, 2, width), kernels.matvec(name, data, 2, x)]
    for width in [*WIDTHS, 172, 4096]:
        for inverse in (0, 1):
            x = rng.normal(size=(2, width)).astype(np.float32)
            job = {"x": x.tobytes().hex(), "rows": 2, "width": width, "inverse": inverse, "variant": variant}
            jobs.append({"call": "hadamard", **job})
            expected.append(kernels.hadamard(x, 6 << 32 | 5, bool(inverse)))
    for job, found, native in zip(jobs, run(module, jobs), expected, strict=True):
        assert found == native.tobytes().hex(), (job["call"], job.get("format"), job["width"])
