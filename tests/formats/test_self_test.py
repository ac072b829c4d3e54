"""The self-test passes on a right build and names the format and the kernel of a wrong one."""

from __future__ import annotations

import ctypes
import shutil

import numpy as np
import pytest

from formats import golden, kernels, oracle
from ruvq import core

DAMAGE = {
    "the table of the SIMD kernel": ("simd_blocks.h", "{73, 103,", "{74, 103,", "pi-t2, 128-bit"),
    "the table of the scalar kernel": ("own.c", "{-11, 26,", "{-11, 27,", "pi-t3, scalar"),
    "the offset of a scalar kernel": (
        "own.c",
        "rq_own_pi_q3 = {true, false, 4",
        "rq_own_pi_q3 = {true, false, 3",
        "pi-q3",
    ),
    "a sign in float products": (
        "foreign.c",
        "a->x[i] * load(row, i)",
        "a->x[i] * -load(row, i)",
        "f32, scalar",
    ),
    "a distance of the transform": (
        "simd_activations.c",
        "rf_sub(sum_ab, sum_cd)",
        "rf_add(sum_ab, sum_cd)",
        "hadamard",
    ),
}


def test_the_self_test_passes_here():
    assert core.get().call("rq_self_test") == core.CONSTANTS["RQ_OK"]


@pytest.mark.parametrize("case", DAMAGE)
def test_a_wrong_kernel_is_named(case, repository, kernel_objects, compile_sources, tmp_path):
    file, right, wrong, named = DAMAGE[case]
    shutil.copytree(repository / "wasm_kernels", tmp_path / "c")
    source = tmp_path / "c" / "formats" / file
    text = source.read_text()
    assert text.count(right) >= 1
    source.write_text(text.replace(right, wrong))
    parts = []
    for path in kernels.sources(tmp_path / "c"):  # what the damage doesn't reach is compiled already
        reached = f"/{file}" in (kernel_objects / f"{path.stem}.d").read_text()
        parts.append(path if reached else kernel_objects / f"{path.stem}.o")
    assert source in parts or file.endswith(".h")
    library = compile_sources(parts, tmp_path / "wrong.so")
    size = core.structs.size("rq_error")
    memory = ctypes.create_string_buffer(size)
    assert library.rq_self_test(memory) == core.CONSTANTS["RQ_E_SELF_TEST"]
    assert named in core.structs.text(core.structs.unpack("rq_error", memory.raw)["subject"])


def test_its_constants_are_the_oracles(repository):
    """The numbers in self_test.c are what golden.py computes."""
    text = (repository / "wasm_kernels" / "formats" / "self_test.c").read_text()
    for name in oracle.FORMATS:
        for width in golden.WIDTHS.get(name, golden.DEFAULT_WIDTHS):
            row, x = golden.golden_row(name, width), golden.activations(width)
            weights = golden.fnv1a(oracle.decode(name, row, width).tobytes())
            product = int(np.array([oracle.dot(name, row, x)], np.float32).view(np.uint32)[0])
            assert f"{{{width}, 0x{weights:08x}u, 0x{product:08x}u}}" in text
