"""Formats by Lagrange's multiplier: never over the budget, close to the best, the same every time."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from ruvq.errors import UsageError
from ruvq.quantize.assignment import Choice, assign, lower_hull


def choices(*pairs: tuple[int, float]) -> list[Choice]:
    return [Choice(f"f{n}", n, loss) for n, loss in pairs]


def test_the_hull_keeps_what_is_best_at_some_price() -> None:
    found = lower_hull(choices((10, 10.0), (20, 8.0), (30, 2.0), (40, 3.0), (50, 1.0)))
    assert [c.nbytes for c in found] == [10, 30, 50]


def test_of_equal_sizes_the_better_one_stays() -> None:
    assert lower_hull([Choice("a", 10, 3.0), Choice("b", 10, 2.0)]) == [Choice("b", 10, 2.0)]


def test_bytes_go_where_they_save_most() -> None:
    cheap, dear = choices((10, 1.0), (20, 0.5)), choices((10, 100.0), (20, 50.0))
    assert [c.nbytes for c in assign([cheap, dear], 30)] == [10, 20]
    assert [c.nbytes for c in assign([cheap, dear], 40)] == [20, 20]


def test_what_is_left_buys_upgrades_off_the_hull() -> None:
    # 20 lies above the line from 10 to 30, but it is what fits
    assert [c.nbytes for c in assign([choices((10, 10.0), (20, 9.0), (30, 0.0))], 25)] == [20]


@pytest.mark.parametrize("seed", range(20))
def test_it_is_within_one_step_of_the_best_of_all_assignments(seed: int) -> None:
    random = np.random.default_rng(seed)
    tensors = []
    for _ in range(5):
        sizes = np.sort(random.integers(10, 100, 4))
        losses = np.sort(random.uniform(0, 10, 4))[::-1] * random.uniform(0.1, 5)
        tensors.append(choices(*zip(sizes.tolist(), losses.tolist(), strict=True)))
    least = sum(min(c.nbytes for c in t) for t in tensors)
    for budget in (least, least + 20, least + 90, least + 1000):
        found = assign(tensors, budget)
        assert sum(c.nbytes for c in found) <= budget
        best = min(
            sum(c.loss for c in every)
            for every in itertools.product(*tensors)
            if sum(c.nbytes for c in every) <= budget
        )
        hulls = [lower_hull(t) for t in tensors]
        step = max(a.loss - b.loss for hull in hulls for a, b in itertools.pairwise(hull))
        assert sum(c.loss for c in found) <= best + step
        assert found == assign(tensors, budget)


def test_a_budget_below_the_smallest_says_what_the_least_is() -> None:
    with pytest.raises(UsageError, match="at least 30 bytes"):
        assign([choices((10, 1.0)), choices((20, 1.0), (40, 0.0))], 29)
