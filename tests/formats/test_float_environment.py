"""A host that flushes subnormal numbers or rounds another way gets the same bits, and its mode back."""

from __future__ import annotations

import ctypes
import platform

import numpy as np
import pytest

from formats import kernels, oracle

FLUSH, DENORMALS_ARE_ZERO, ROUND_DOWN = 0x8000, 0x0040, 0x2000

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="sets MXCSR")


@pytest.fixture(scope="module")
def mode(compile_sources, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mode")
    source = folder / "mode.c"
    source.write_text(
        "unsigned get(void) { return __builtin_ia32_stmxcsr(); }\n"
        "void set(unsigned m) { __builtin_ia32_ldmxcsr(m); }\n"
    )
    return compile_sources([source], folder / "mode.so")


@pytest.mark.parametrize("bits", [FLUSH, DENORMALS_ARE_ZERO, FLUSH | DENORMALS_ARE_ZERO, ROUND_DOWN])
def test_the_callers_floating_point_mode_changes_nothing_and_is_kept(mode, bits):
    assert ctypes.sizeof(ctypes.c_uint) == 4
    rng = np.random.default_rng(kernels.SEED)
    x = rng.normal(size=512).astype(np.float32)
    small = (x * np.float32(2.0**-130)).astype(np.float32)
    data = {name: kernels.random_rows(name, 1, 512, rng, extreme=True) for name in oracle.FORMATS}

    def results() -> list[bytes]:
        out = [kernels.hadamard(small, 3).tobytes()]
        for name, row in data.items():
            out += [kernels.decode(name, row, 1, 512).tobytes(), kernels.matvec(name, row, 1, x).tobytes()]
            out.append(kernels.matvec(name, row, 1, small).tobytes())
        return out

    expected, before = results(), mode.get()
    mode.set(before | bits)
    try:
        found, after = results(), mode.get()
    finally:
        mode.set(before)
    assert found == expected
    assert after & 0xFFC0 == (before | bits) & 0xFFC0
