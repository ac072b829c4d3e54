"""Products of rows with several vectors at once give the bits of one at a time."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from formats import kernels, oracle

COUNTS = [1, 2, 3, 4, 5, 7, 8, 16, 17, 21, 33]


class Arena(ctypes.Structure):
    """rq_arena."""

    _fields_ = [("begin", ctypes.c_void_p), ("end", ctypes.c_void_p), ("used", ctypes.c_uint64)]


class Activations(ctypes.Structure):
    """rq_activations."""

    _fields_ = [
        (name, ctypes.c_void_p)
        for name in ("x", "q", "lanes", "scale", "group_sum", "quads", "steps", "part_sum")
    ]
    _fields_ += [("width", ctypes.c_int32)]


@pytest.fixture(scope="module")
def library(kernel_objects, compile_sources, tmp_path_factory):
    output = tmp_path_factory.mktemp("batch") / "batch.so"
    lib = compile_sources(list(kernel_objects.glob("*.o")), output)
    lib.rq_format_get.restype = ctypes.c_void_p
    return lib


@pytest.mark.parametrize("variant", kernels.VARIANTS)
@pytest.mark.parametrize("name", oracle.FORMATS)
def test_INV_8_a_batch_gives_the_bits_of_single_products(library, name, variant):
    rng = np.random.default_rng(kernels.SEED)
    variant = library.rq_variant(variant)
    entry = ctypes.c_void_p(library.rq_format_get(kernels.number(name)))
    quantized = ctypes.c_bool(name not in oracle.FLOATS)
    for width in kernels.widths(name, [1, 17, 43, 192, 256, 300, 576, 768]):
        rows = 5
        data = kernels.random_rows(name, rows, width, rng)
        for count in COUNTS if width == 576 else COUNTS[-2:]:
            x = rng.normal(size=(count, width)).astype("<f4")
            batch, arena = (Activations * count)(), Arena(None, None, 0)
            for one in batch:
                library.rq_activations_layout(ctypes.byref(arena), width, ctypes.byref(one))
            memory = np.zeros(arena.used + 64, np.uint8)
            begin = memory.ctypes.data + -memory.ctypes.data % 64
            arena = Arena(begin, begin + arena.used, 0)
            for one, vector in zip(batch, x, strict=True):
                library.rq_activations_layout(ctypes.byref(arena), width, ctypes.byref(one))
                address = ctypes.c_void_p(vector.ctypes.data)
                assert (
                    library.rq_activations_set(None, ctypes.byref(one), address, width, quantized, variant)
                    == 0
                )
            stride = rows + 2
            y = np.full((count, stride), -1, "<f4")
            out = ctypes.c_void_p(y.ctypes.data), ctypes.c_size_t(stride)
            library.rq_rows_product(entry, data, width, 1, rows, batch, count, *out, variant)
            for t in range(count):
                expected = kernels.matvec(name, data, rows, x[t], variant)
                assert y[t, 1:rows].tobytes() == expected[1:].tobytes(), (width, count, t)
            assert (np.delete(y, range(1, rows), axis=1) == -1).all()
