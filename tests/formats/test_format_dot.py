"""Products: the order of sums in the contract, computed one element at a time by the oracle, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from formats import kernels, oracle
from ruvq import errors

VARIANTS = kernels.VARIANTS


def activations(kind: str, width: int, rng: np.random.Generator) -> np.ndarray:
    """Vectors that try the rounding and range of int8 activations."""
    if kind == "normal":
        return rng.normal(size=width).astype(np.float32)
    if kind == "full range":
        return rng.choice(np.array([-127, 127, 126.5, -0.5], np.float32), width)
    if kind == "ties":
        x = rng.integers(-254, 255, width).astype(np.float32) / 2
        x[::256] = 127
        return x
    if kind == "zeros":
        return np.where(rng.random(width) < 0.5, np.float32(0), np.float32(-0.0))
    if kind == "subnormal":  # dx loses bits: some x / dx would be above 127
        return rng.integers(-190, 191, width).astype(np.float32) * np.float32(2.0**-149)
    if kind == "too small for a scale":
        return rng.integers(-60, 61, width).astype(np.float32) * np.float32(2.0**-149)
    assert kind == "huge"
    return rng.normal(size=width).astype(np.float32) * np.float32(1e30)


KINDS = ["normal", "full range", "ties", "zeros", "subnormal", "too small for a scale", "huge"]


def bits(y: np.ndarray) -> list[int]:
    """f32 as integers; every NaN as one."""
    y = np.asarray(y, np.float32)
    return np.where(np.isnan(y), np.uint32(0x7FC00000), y.view(np.uint32)).tolist()


@pytest.mark.parametrize("name", oracle.FORMATS)
def test_products_follow_the_contract_in_every_kernel(name):
    rng = np.random.default_rng(kernels.SEED)
    for width in kernels.widths(name):
        data = kernels.random_rows(name, 2, width, rng)
        size, x = len(data) // 2, activations("normal", width, rng)
        expected = [oracle.dot(name, data[i * size : (i + 1) * size], x) for i in range(2)]
        for variant in VARIANTS:
            assert bits(kernels.matvec(name, data, 2, x, variant)) == bits(expected), (width, variant)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", oracle.FORMATS)
def test_products_with_extreme_scales_and_activations(name, kind):
    rng = np.random.default_rng(kernels.SEED)
    for width in kernels.widths(name, [17, 192, 256, 300, 512]):
        data = kernels.random_rows(name, 1, width, rng, extreme=True)
        x = activations(kind, width, rng)
        expected = oracle.dot(name, data, x)
        for variant in VARIANTS:
            assert bits(kernels.matvec(name, data, 1, x, variant)) == bits([expected]), (width, variant)


@pytest.mark.parametrize("name", oracle.FORMATS)
def test_INV_8_simd_and_scalar_give_the_same_bits(name):
    """INV-8, sharper than one unit in the last place: equal bits, in decoding and in products."""
    rng = np.random.default_rng(kernels.SEED + 1)
    for width in kernels.widths(name):
        for extreme in (False, True):
            data = kernels.random_rows(name, 3, width, rng, extreme)
            decoded = {kernels.decode(name, data, 3, width, v).tobytes() for v in VARIANTS}
            assert len(decoded) == 1
            for kind in KINDS:
                x = activations(kind, width, rng)
                products = {tuple(bits(kernels.matvec(name, data, 3, x, v))) for v in VARIANTS}
                assert len(products) == 1, (width, kind)


@pytest.mark.parametrize("name", oracle.FORMATS)
def test_INV_8_tails_of_every_length_give_the_same_bits(name):
    """Widths of 1 to 256, for kernels that read tails in pieces; five rows, as many as none takes at once."""
    rng = np.random.default_rng(kernels.SEED + 2)
    for width in kernels.widths(name, list(range(1, 257))):
        data = kernels.random_rows(name, 5, width, rng)
        x = activations("normal", width, rng)
        products = {tuple(bits(kernels.matvec(name, data, 5, x, v))) for v in VARIANTS}
        assert len(products) == 1, width


def test_a_variant_that_the_machine_lacks_gives_way_to_one_below():
    from ruvq import core

    found = [core.get().call("rq_variant", v) for v in VARIANTS]
    best = found[kernels.SIMD]
    assert found[kernels.SCALAR] == kernels.SCALAR
    assert [f for v, f in enumerate(found) if v > kernels.SCALAR] == [
        min(v, best) for v in VARIANTS if v > kernels.SCALAR
    ]


@pytest.mark.parametrize("name", [n for n in oracle.FORMATS if n not in oracle.FLOATS])
def test_products_are_close_to_those_of_the_decoded_weights(name):
    """What the bits mean, beside what they are: int8 activations cost below one per cent here."""
    rng = np.random.default_rng(kernels.SEED)
    data, x = kernels.random_rows(name, 40, 1024, rng), rng.normal(size=1024).astype(np.float32)
    exact = kernels.decode(name, data, 40, 1024).astype(np.float64) @ x
    error = np.linalg.norm(kernels.matvec(name, data, 40, x) - exact) / np.linalg.norm(exact)
    assert 0 < error < 0.02


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", oracle.FORMATS)
def test_activations_that_are_not_finite_are_an_error(name, value, variant):
    x = np.ones(512, np.float32)
    x[300] = value
    with pytest.raises(errors.RuvqError, match="activation 300"):
        kernels.matvec(name, bytes(oracle.row_bytes(name, 512)), 1, x, variant)


def test_a_scratch_that_is_too_small_is_an_error():
    from ruvq import core

    c = core.get()
    with c.alloc(4096) as memory:
        m, number = memory.address, kernels.number("pi-t3")
        with pytest.raises(errors.RuvqError, match="scratch"):
            c.call("rq_matvec", number, m, 1, 256, m, m, m, m + 64, kernels.SIMD)
