"""The core's own elementary functions: at most one unit in the last place of float, and exact conversions."""

from __future__ import annotations

import ctypes
import math

import numpy as np
import pytest


@pytest.fixture(scope="module")
def library(repository, compile_sources, tmp_path_factory):
    base = repository / "wasm_kernels" / "base"
    lib = compile_sources([base / "math.c"], tmp_path_factory.mktemp("math") / "math.so")
    f, d, u = ctypes.c_float, ctypes.c_double, ctypes.c_uint16
    signatures = {
        "rq_expf": (f, [f]), "rq_logf": (f, [f]), "rq_sinf": (f, [d]), "rq_cosf": (f, [d]),
        "rq_exp": (d, [d]), "rq_log": (d, [d]), "rq_pow": (d, [d, d]),
        "rq_f16_to_f32": (f, [u]), "rq_f32_to_f16": (u, [f]), "rq_bf16_to_f32": (f, [u]),
        "rq_f32_to_bf16": (u, [f]),
    }  # fmt: skip
    for name, (result, arguments) in signatures.items():
        getattr(lib, name).restype, getattr(lib, name).argtypes = result, arguments
    return lib


def ulps(found: float, exact: float) -> float:
    """Distance in units of the last place of f32 at `exact`."""
    return abs(found - exact) / float(np.spacing(np.float32(abs(exact))))


def test_expf_and_logf_within_one_ulp(library):
    rng = np.random.default_rng(0)
    for x in np.concatenate(
        [rng.uniform(-104, 88.7, 4000), rng.normal(size=2000), [0, -0.0, 88.72, -103]]
    ).astype(np.float32):
        assert ulps(library.rq_expf(x), math.exp(float(x))) <= 1
    for x in np.exp(rng.uniform(-100, 88, 4000)).astype(np.float32):
        assert ulps(library.rq_logf(x), math.log(float(x))) <= 1
    assert library.rq_logf(1.0) == 0
    assert library.rq_expf(0.0) == 1


def test_the_ends_of_exp_and_log(library):
    inf, nan = math.inf, math.nan
    assert [library.rq_expf(x) for x in (inf, -inf, 200, -200, 89)] == [inf, 0, inf, 0, inf]
    assert [library.rq_exp(x) for x in (inf, -inf, 710, -746)] == [inf, 0, inf, 0]
    assert [library.rq_log(x) for x in (0.0, inf)] == [-inf, inf]
    assert all(
        map(
            math.isnan, [library.rq_expf(nan), library.rq_exp(nan), library.rq_log(nan), library.rq_log(-1.0)]
        )
    )
    assert math.isclose(library.rq_log(5e-324), math.log(5e-324), rel_tol=1e-15)
    assert library.rq_exp(-745.0) == 5e-324


def test_exp_log_and_pow_in_double(library):
    rng = np.random.default_rng(1)
    for x in rng.uniform(-700, 700, 3000):
        assert math.isclose(library.rq_exp(x), math.exp(x), rel_tol=4e-16)
    for x in np.exp(rng.uniform(-700, 700, 3000)):
        assert math.isclose(library.rq_log(x), math.log(x), rel_tol=4e-16)
    for base, y in zip(rng.uniform(1e3, 1e6, 2000), rng.uniform(-2, 2, 2000), strict=True):
        assert math.isclose(library.rq_pow(base, y), base**y, rel_tol=1e-14)


def test_sine_and_cosine_within_one_ulp(library):
    rng = np.random.default_rng(2)
    angles = [
        *rng.uniform(-10, 10, 4000),
        *rng.uniform(-(2.0**31), 2.0**31, 4000),
        *rng.integers(0, 10**6, 2000),
    ]
    angles += [k * math.pi / 4 for k in range(-64, 65)] + [2.0**31 - 1, 0.0, 1e-30]
    for x in map(float, angles):
        assert ulps(library.rq_sinf(x), math.sin(x)) <= 1, x
        assert ulps(library.rq_cosf(x), math.cos(x)) <= 1, x
    assert all(
        math.isnan(library.rq_sinf(x)) and math.isnan(library.rq_cosf(x))
        for x in (math.inf, math.nan, 2.0**31)
    )


def test_f32_to_f16_and_bf16_round_to_nearest_even(library):
    rng = np.random.default_rng(3)
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float64)
    middles = ((halves[1:] + halves[:-1]) / 2).astype(np.float32)  # ties, exact in f32
    near = np.concatenate(
        [middles, np.nextafter(middles, np.float32(0)), np.nextafter(middles, np.float32(1e9))]
    )
    values = np.concatenate([near[rng.integers(0, len(near), 6000)], rng.normal(size=2000)]).astype(
        np.float32
    )
    ends = np.array(
        [0, 65504, 65519.996, 65520, 1e9, np.inf, 1e-45, 2.0**-24, 2.0**-25, 2.9802326e-08], np.float32
    )
    for x in np.concatenate([values, -values, ends, -ends]):
        with np.errstate(over="ignore"):
            assert library.rq_f32_to_f16(x) == int(np.float16(x).view(np.uint16)), x
        bits = int(x.view(np.uint32))
        expected = bits >> 16 if np.isinf(x) else (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
        assert library.rq_f32_to_bf16(x) == expected
    assert library.rq_f32_to_f16(math.nan) & 0x7FFF > 0x7C00
    assert library.rq_f32_to_bf16(math.nan) & 0x7FFF > 0x7F80
    for h in range(0, 65536, 7):
        assert library.rq_bf16_to_f32(h) == np.uint32(h << 16).view(np.float32) or h & 0x7FFF > 0x7F80
        if h & 0x7C00 != 0x7C00:
            assert library.rq_f32_to_f16(library.rq_f16_to_f32(h)) == h
