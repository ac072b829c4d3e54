"""The sampler: distributions, filters, ties, seeds, refusals."""

from __future__ import annotations

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
        options = {"top_p": 1.0, "min_p": 0.0, "top_k": 0} | filters
        words = (seed & 0xFFFFFFFF, seed >> 32)
        self.core.call("rq_sampler_init", self.state.address, *words, float(temperature), *options.values())

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
