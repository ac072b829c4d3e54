"""The sampler: distributions, filters, ties, seeds, refusals."""

from __future__ import annotations

import struct
from collections import Counter
from typing import Any

import numpy as np
import pytest

from ruvq import core
from ruvq.core import structs
from ruvq.errors import DataError, MemoryLimitError, UsageError

DRAWS = 4000


class Sampler:
    """The core's sampler on logits of one's own."""

    def __init__(self, logits: Any, temperature: float = 1.0, seed: int = 1, **filters: Any) -> None:
        self.core = core.get()
        self.logits = np.ascontiguousarray(logits, np.float32)
        self.place = self.core.place(self.logits)
        self.state = self.core.alloc(structs.size("rq_sampler"))
        self.scratch = self.core.alloc(self.core.call("rq_sample_scratch", len(self.logits)))
        options = {"top_p": 1.0, "min_p": 0.0, "top_k": 0, "typical_p": 1.0, "repeat_penalty": 1.0} | filters
        how = structs.pack("rq_sampling", temperature=float(temperature), **options)
        words = (seed & 0xFFFFFFFF, seed >> 32)
        place = self.core.place(how)
        self.core.call("rq_sampler_init", self.state.address, *words, place.address)

    def draw(self) -> int:
        where = (self.place.address, len(self.logits), self.scratch.address, self.scratch.end)
        return self.core.call("rq_sample", self.state.address, *where)

    def many(self, count: int = DRAWS) -> list[int]:
        return [self.draw() for _ in range(count)]


def allowed(logits: np.ndarray, temperature: float, top_p: float, min_p: float, top_k: int) -> np.ndarray:
    """Probabilities after the filters, in NumPy."""
    p = np.exp((logits.astype(np.float64) - logits.max()) / temperature)
    order = np.argsort(-p, kind="stable")
    if top_k:
        order = order[:top_k]
    share = np.cumsum(p[order]) / p[order].sum()
    order = order[: int(np.searchsorted(share, top_p)) + 1]
    order = order[p[order] >= min_p * p.max()]
    out = np.zeros_like(p)
    out[order] = p[order] / p[order].sum()
    return out


CASES = {
    "all": (1.0, 1.0, 0.0, 0),
    "hot": (2.5, 1.0, 0.0, 0),
    "cold": (0.3, 1.0, 0.0, 0),
    "top_k": (1.0, 1.0, 0.0, 7),
    "top_p": (1.0, 0.6, 0.0, 0),
    "min_p": (1.0, 1.0, 0.2, 0),
    "all_filters": (1.3, 0.8, 0.05, 20),
    "top_k_above_vocabulary": (1.0, 0.9, 0.0, 1000),
}


@pytest.mark.parametrize("case", CASES)
def test_tokens_come_as_often_as_their_probability(case: str) -> None:
    temperature, top_p, min_p, top_k = CASES[case]
    logits = np.random.default_rng(8).normal(0, 1.7, 50).astype(np.float32)
    sampler = Sampler(logits, temperature, seed=99, top_p=top_p, min_p=min_p, top_k=top_k)
    counts = np.bincount(sampler.many(), minlength=50)
    p = allowed(logits, temperature, top_p, min_p, top_k)
    assert set(np.flatnonzero(counts)) <= set(np.flatnonzero(p))
    spread = np.sqrt(DRAWS * p * (1 - p)) + 1
    assert (np.abs(counts - DRAWS * p) < 4.5 * spread).all()


def test_the_generator_is_splitmix64_with_24_bits() -> None:
    """Drawing among 4 equal logits shows the two leading bits of each output."""
    mask, state, expected = (1 << 64) - 1, 0x123456789ABCDEF0, []
    for _ in range(200):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = ((state ^ state >> 30) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & mask
        expected.append((z ^ z >> 31) >> 62)
    assert Sampler([0.5] * 4, seed=0x123456789ABCDEF0).many(200) == expected


def test_the_same_seed_gives_the_same_tokens_and_another_others() -> None:
    logits = np.random.default_rng(1).normal(size=100)
    first = Sampler(logits, seed=5, top_p=0.9).many(100)
    assert Sampler(logits, seed=5, top_p=0.9).many(100) == first
    assert Sampler(logits, seed=5 + (1 << 40), top_p=0.9).many(100) != first


def test_greedy_takes_the_largest_and_the_lower_id_of_equals() -> None:
    assert Sampler([1, 3, 2], 0).draw() == 1
    assert Sampler([0, 7, 7, 7], 0).draw() == 1
    assert Sampler([-0.0, 0.0], 0).draw() == 0


def test_ties_at_the_edge_of_a_filter_go_to_the_lower_id() -> None:
    logits = [1.0, 2.0, 2.0, 2.0, 0.0]
    assert set(Sampler(logits, top_k=2).many(300)) == {1, 2}
    assert set(Sampler([1.0] * 4, top_p=0.5).many(300)) == {0, 1}
    assert set(Sampler([0.0] * 9, top_k=1).many(20)) == {0}


@pytest.mark.parametrize("filters", [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}])
def test_the_strictest_filters_are_greedy(filters: dict[str, Any]) -> None:
    logits = np.random.default_rng(4).normal(size=60)
    assert set(Sampler(logits, 5.0, **filters).many(50)) == {int(logits.argmax())}


def test_extreme_logits_and_temperatures_stay_in_range() -> None:
    huge = float(np.finfo(np.float32).max)
    assert Sampler([-huge, huge, 0.0], 1e-30).draw() == 1
    assert set(Sampler([huge, huge, -huge], 100.0).many(100)) == {0, 1}
    assert Sampler([3.0]).draw() == 0
    counts = Counter(Sampler([0.0] * 10, 1e-38).many(1000))
    assert len(counts) == 10


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_nonfinite_logits_are_an_error(bad: float, temperature: float) -> None:
    with pytest.raises(DataError) as caught:
        Sampler([0.0, 1.0, bad], temperature).draw()
    assert (caught.value.code, caught.value.subject) == ("RQ_E_NONFINITE", "logit of token 2")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("temperature", {"temperature": -0.1}),
        ("temperature", {"temperature": float("nan")}),
        ("temperature", {"temperature": 101.0}),
        ("top_p", {"top_p": 0.0}),
        ("top_p", {"top_p": 1.01}),
        ("top_p", {"top_p": float("nan")}),
        ("min_p", {"min_p": -0.01}),
        ("min_p", {"min_p": 1.5}),
        ("top_k", {"top_k": -1}),
    ],
)
def test_options_out_of_range_are_refused(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        Sampler([0.0, 1.0], **options)
    assert caught.value.subject == name


def test_too_little_scratch_is_refused() -> None:
    sampler = Sampler([0.0] * 100)
    where = (sampler.place.address, 100, sampler.scratch.address, sampler.scratch.end - 1)
    with pytest.raises(MemoryLimitError):
        sampler.core.call("rq_sample", sampler.state.address, *where)


def test_log_probabilities_are_those_of_a_softmax() -> None:
    backend = core.get()
    logits = np.random.default_rng(2).normal(0, 20, 300).astype(np.float32)
    exact = logits.astype(np.float64) - np.logaddexp.reduce(logits.astype(np.float64))
    with backend.place(logits) as place, backend.alloc(4) as out:
        for token in (0, 1, 150, int(logits.argmax()), int(logits.argmin())):
            backend.call("rq_log_probability", place.address, 300, token, out.address)
            got = np.frombuffer(backend.read(out.address, 4), "<f4")[0]
            assert got == pytest.approx(exact[token], rel=2e-7, abs=1e-7)
        for token in (-1, 300):
            with pytest.raises(UsageError):
                backend.call("rq_log_probability", place.address, 300, token, out.address)


# ---- typical, Mirostat, penalties, biases, log-probabilities ----


def probabilities(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    p = np.exp((logits.astype(np.float64) - logits.max()) / temperature)
    return p / p.sum()


@pytest.mark.parametrize("typical_p", [0.2, 0.5, 0.9])
def test_typical_keeps_the_tokens_nearest_to_the_expected_surprise(typical_p: float) -> None:
    logits = np.random.default_rng(3).normal(0, 2.0, 60).astype(np.float32)
    p = probabilities(logits, 1.2)
    entropy = -(p * np.log(p)).sum()
    order = np.argsort(np.abs(-np.log(p) - entropy), kind="stable")
    kept = order[: int(np.searchsorted(np.cumsum(p[order]), typical_p)) + 1]
    expected = np.zeros_like(p)
    expected[kept] = p[kept] / p[kept].sum()
    counts = np.bincount(Sampler(logits, 1.2, seed=5, typical_p=typical_p).many(), minlength=60)
    assert set(np.flatnonzero(counts)) <= set(kept)
    spread = np.sqrt(DRAWS * expected * (1 - expected)) + 1
    assert (np.abs(counts - DRAWS * expected) < 4.5 * spread).all()


def test_typical_works_with_the_other_filters() -> None:
    logits = np.random.default_rng(3).normal(0, 2.0, 60).astype(np.float32)
    both = set(Sampler(logits, typical_p=0.9, top_k=3).many(500))
    assert both <= set(Sampler(logits, typical_p=0.9).many())
    assert len(both) <= 3


@pytest.mark.parametrize("tau", [1.0, 3.0])
def test_mirostat_comes_to_the_surprise_it_aims_at(tau: float) -> None:
    logits = np.random.default_rng(9).normal(0, 1.5, 2000).astype(np.float32)
    p = probabilities(logits)
    sampler = Sampler(logits, seed=2, mirostat_tau=tau, mirostat_eta=0.1)
    draws = sampler.many(1500)[500:]
    state = structs.unpack("rq_sampler", sampler.core.read(sampler.state.address, sampler.state.nbytes))
    allowed_now = np.flatnonzero(-np.log2(p) <= state["mirostat_mu"])
    kept = p[allowed_now].sum() if len(allowed_now) else p.max()
    mean = float(np.mean([-np.log2(p[i] / kept) for i in draws]))
    assert abs(mean - tau) < 0.5


def adjust(
    logits: np.ndarray,
    recent: list[int],
    biases: dict[int, float] | None = None,
    **penalties: float,
) -> np.ndarray:
    sampler = Sampler(logits, **penalties)
    backend = sampler.core
    packed = b"".join(struct.pack("<if", token, bias) for token, bias in (biases or {}).items())
    with (
        backend.place(packed or bytes(8)) as given,
        backend.place(struct.pack(f"<{len(recent)}i", *recent) or bytes(4)) as ids,
        backend.alloc(4 * len(logits)) as out,
    ):
        where = (sampler.place.address, len(logits), given.address, len(packed) // 8)
        backend.call("rq_adjust_logits", sampler.state.address, *where, ids.address, len(recent), out.address)
        return np.frombuffer(backend.read(out.address, out.nbytes), np.float32)


def test_penalties_follow_their_formula() -> None:
    logits = np.array([2.0, -1.0, 0.5, 3.0, 0.0], np.float32)
    found = adjust(logits, [0, 1, 0, 4], repeat_penalty=2.0, presence_penalty=0.25, frequency_penalty=0.125)
    assert found.tolist() == [2 / 2 - 0.25 - 0.25, -2 - 0.25 - 0.125, 0.5, 3.0, -0.25 - 0.125]
    assert adjust(logits, []).tolist() == logits.tolist()


def test_biases_are_added_and_ban() -> None:
    logits = np.array([2.0, -1.0, 0.5], np.float32)
    found = adjust(logits, [], {0: -float("inf"), 1: 4.0})
    assert found[1:].tolist() == [3.0, 0.5]
    assert np.isfinite(found[0])
    assert found[0] < -1e38
    for wrong in ({0: float("inf")}, {0: float("nan")}, {3: 1.0}, {-1: 1.0}):
        with pytest.raises(UsageError):
            adjust(logits, [], wrong)
    with pytest.raises(UsageError):
        adjust(logits, [3], presence_penalty=1.0)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("typical_p", 0.0),
        ("typical_p", float("nan")),
        ("mirostat_tau", -1.0),
        ("mirostat_eta", 2.0),
        ("repeat_penalty", 0.0),
        ("presence_penalty", float("inf")),
        ("frequency_penalty", -101.0),
    ],
)
def test_the_further_options_are_checked(option: str, value: float) -> None:
    with pytest.raises(UsageError) as caught:
        Sampler(np.zeros(3), **{option: value})
    assert caught.value.subject == option


def test_the_likeliest_tokens_come_with_their_log_probabilities() -> None:
    logits = np.random.default_rng(1).normal(0, 3, 500).astype(np.float32)
    logits[100] = logits[50] = logits.max() + 1  # a tie
    sampler = Sampler(logits)
    backend = sampler.core
    with backend.alloc(8 * 20) as out:
        where = (sampler.place.address, 500, 20, out.address, out.address + 80)
        backend.call("rq_top_log_probabilities", *where)
        tokens = np.frombuffer(backend.read(out.address, 80), np.int32)
        values = np.frombuffer(backend.read(out.address + 80, 80), np.float32)
        for count in (0, 257, 501):
            with pytest.raises(UsageError):
                backend.call("rq_top_log_probabilities", *where[:2], count, out.address, out.address)
    assert tokens.tolist() == np.argsort(-logits, kind="stable")[:20].tolist()
    assert tokens[:2].tolist() == [50, 100]
    np.testing.assert_allclose(values, np.log(probabilities(logits))[tokens], rtol=1e-6)
