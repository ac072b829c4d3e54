"""Ratios come from the figures of one run and from nothing else; targets are judged by them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "build" / "bench"))

from summary import DECODE, PROMPT, summarise
from targets import judge
from timing import summary


def entry(decode: list[float], prompt: list[float]) -> dict[str, Any]:
    return {DECODE: summary(decode), PROMPT: summary(prompt)}


def shape() -> dict[str, Any]:
    return {
        "chromium": {"pi-t2": entry([100, 200, 300], [10, 10, 10]), "Q8_0": entry([50, 50, 50], [8, 8, 8])},
        "native": {"pi-t2": entry([400, 400, 400], [50, 50, 50])},
        "wllama": {"Q8_0": entry([10, 10, 10], [20, 20, 20]), "Q4_K_M": entry([20, 50, 60], [5, 5, 5])},
        "llama_cpp": {"Q4_K_M": entry([200, 200, 200], [1, 1, 1])},
    }


def test_a_ratio_is_the_median_of_the_rounds_ratios_to_the_fastest_format() -> None:
    maps = summarise(shape())
    assert maps["best_peer_1_thread"] == {"decode": "Q4_K_M", "prompt": "Q8_0"}
    assert maps["decode_ratio_vs_best_peer_1_thread"] == {
        "pi-t2": 5.0,
        "Q8_0": 1.0,
    }  # of 5, 4, 5; 2.5, 1, 0.83
    assert maps["prompt_ratio_vs_best_peer_1_thread"] == {"pi-t2": 0.5, "Q8_0": 0.4}
    assert maps["decode_ratio_vs_native_q4_k_m_1_thread"]["pi-t2"] == 1.0
    assert maps["native_decode_ratio_vs_native_q4_k_m_1_thread"] == {"pi-t2": 2.0}
    assert maps["decode_ratio_same_file_1_thread"] == {"Q8_0": 5.0}


def test_rounds_that_do_not_pair_give_the_ratio_of_the_medians() -> None:
    figures = shape()
    figures["wllama"] = {"Q8_0": entry([40, 10], [20, 20])}
    assert summarise(figures)["decode_ratio_vs_best_peer_1_thread"]["pi-t2"] == 200 / 25


def test_what_was_not_measured_has_no_ratio() -> None:
    figures = shape()
    maps = summarise(figures)
    assert maps["decode_ratio_vs_best_peer_2_threads"] == {}
    assert maps["decode_ratio_2_threads_vs_1"] == {}
    del figures["wllama"], figures["llama_cpp"]
    maps = summarise(figures)
    assert maps["best_peer_1_thread"] == {"decode": None, "prompt": None}
    assert all(values == {} for key, values in maps.items() if "ratio" in key)


def test_two_threads_are_compared_with_two_threads() -> None:
    figures = shape()
    figures["chromium_2_threads"] = {"pi-t2": entry([190, 380, 570], [1, 1, 1])}
    figures["wllama_2_threads"] = {"Q8_0": entry([19, 38, 57], [1, 1, 1])}
    maps = summarise(figures)
    assert maps["decode_ratio_vs_best_peer_2_threads"] == {"pi-t2": 10.0}
    assert maps["decode_ratio_2_threads_vs_1"] == {"pi-t2": pytest.approx(1.9)}


@pytest.mark.parametrize(
    ("figure", "floor", "goal"),
    [(3.9, False, False), (4.0, True, False), (5.9, True, False), (6.0, True, True)],
)
def test_a_target_is_reached_from_its_figure_on(
    tmp_path: Path, figure: float, floor: bool, goal: bool
) -> None:
    report = {"summary": {"M": {"decode_ratio_vs_best_peer_1_thread": {"pi-t2": figure}}}}
    (target,) = judge(report, tmp_path)
    assert (target["floor_reached"], target["goal_reached"]) == (floor, goal)
    assert (target["floor"], target["goal"]) == (4, 6)


def test_sizes_are_reached_from_below(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "ruvq.wasm").write_bytes(bytes(1000))
    (target,) = judge({}, tmp_path)
    assert target["figure"] < 100
    assert target["goal_reached"]


def test_nothing_is_judged_without_a_figure(tmp_path: Path) -> None:
    assert judge({"summary": {"M": summarise({})}}, tmp_path) == []


def test_every_measured_figure_that_has_a_target_is_judged(tmp_path: Path) -> None:
    figures = {"memory_bytes": summary([130.0]), "kv_bytes": summary([10.0]), "file_bytes": 100}
    hosts = {"javascript": {"first_token_s": summary([0.6])}, "pyodide": {}}
    hosts["pyodide"] = {"first_token_s": summary([4.5]), "beyond_boot_s": summary([1.5])}
    large = {"shape": "Q", "host": "chromium", "threads": 1, "tensor_bytes": 128_000_000}
    report = {
        "models": {"M": {"chromium": {"pi-t2": figures}}},
        "first_token": hosts,
        "scaling": {"by_size": [large | {"decode_tokens_per_s": summary([15.0])}]},
        "encoding_s": {"Q pi-t2": 120.0, "tiny pi-t2": 1.0},
    }
    judged = {(t["what"], t["where"]): t for t in judge(report, tmp_path)}
    found = {key: (t["figure"], t["floor_reached"], t["goal_reached"]) for key, t in judged.items()}
    assert found == {
        ("page opened to first token, bundled model, cold cache", "JavaScript"): (0.6, True, True),
        ("page opened to first token, bundled model, cold cache", "Python, beyond Pyodide's boot"): (
            1.5,
            False,
            False,
        ),
        ("engine memory in a tab without the KV cache, against the file", "M pi-t2"): (1.2, False, None),
        ("tensor data of 0.5B at 2 bits", "Q pi-t2"): (128.0, True, None),
        ("0.5B at 2 bits decodes", "Q pi-t2, chromium, 1 thread(s)"): (15.0, None, None),
        ("trellis encoding of 0.5B on 2 cores, without calibration", "Q pi-t2"): (2.0, True, False),
    }
