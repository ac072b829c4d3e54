"""The profile of a token: its pieces are the token on both hosts, and the limits follow from it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parents[2] / "build" / "bench"
sys.path.insert(0, str(BENCH))

from profile_tables import ORDER, markdown  # noqa: E402
from token_profile import distinct, roofline, with_shares  # noqa: E402


def clocked(token: float, **operations: float) -> dict[str, Any]:
    """What the measuring side gives, in seconds."""
    seconds = dict.fromkeys(ORDER[:-2], 0.0) | operations
    return {"token_s": token, "slowest_token_s": token, "sampling_s": 1.0, "operations_s": seconds}


def matrix(operation: str, nbytes: int, rows: int, format_name: str = "pi-t2") -> dict[str, Any]:
    shape = (format_name, rows, 40)
    return {"operation": operation, "shape": shape, "bytes": nbytes, "weights": 40 * rows, "layer": 0}


def test_what_nobody_booked_is_what_the_host_spends_on_calls() -> None:
    after = with_shares(clocked(10.0, up=5.0, output=2.0, attention=1.5), {"token_s": 9.5})
    assert after["pieces_s"]["calls"] == pytest.approx(0.5)
    assert sum(after["shares"].values()) == pytest.approx(1.0)
    assert after["token_without_clock_s"] == 9.5


def test_matrices_of_one_role_and_shape_are_measured_once() -> None:
    kinds = distinct([matrix("up", 1000, 100), matrix("up", 1000, 100), matrix("up", 2000, 100, "q8_0")])
    assert [count for _, count in kinds] == [2, 1]


def test_limits_follow_from_bytes_and_from_products_in_the_cache() -> None:
    matrices = [matrix("up", 1000, 100), matrix("up", 1000, 100), matrix("output", 2000, 200)]
    after = with_shares(clocked(10.0, up=3.0, output=2.0), {"token_s": 10.0})
    limits = roofline(matrices, after, {"up": 2.5, "output": 1.5}, 8000.0)
    assert limits["bits_per_weight"] == 2
    assert limits["operations_per_byte"] == 8
    assert limits["tokens_per_s"] == {
        "reading": 2.0,
        "products_from_cache": 0.25,
        "products_measured": 0.2,
        "measured": 0.1,
    }
    result = {"model": "m.gguf", "host": "native", "kernels": "AVX2", "after": {"16": after}, **limits}
    machine = {"processor": "P", "cores": 2, "load_average_at_start": 4.0}
    text = markdown([result], "1.0", machine)
    assert "busy with other work" in text
    assert "| up | 3000000 (30.0 %) |" in text
    assert "| 40 % |" in text  # of the lower limit


@pytest.mark.slow
def test_the_engine_accounts_for_its_time_on_both_hosts(
    repository: Path, make: Callable[..., None], tmp_path: Path
) -> None:
    make(*(f"out/bench/profile/{name}" for name in ("libruvq.so", "ruvq.wasm", "ruvq-relaxed.wasm")))
    page = tmp_path / "performance.md"
    command = [sys.executable, "build/bench/token_profile.py", "--shape", "S4", "--formats", "pi-t2"]
    command += ["--contexts", "16", "64", "--rounds", "3", "--tokens", "8", "--write", str(page)]
    run = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    native, chromium = json.loads(run.stdout)
    assert (native["host"], chromium["host"]) == ("native", "chromium")
    assert native["bytes_per_token"] == chromium["bytes_per_token"] > 0
    for result in (native, chromium):
        for after in result["after"].values():
            pieces = after["pieces_s"]
            assert min(pieces[name] for name in ORDER[:-1]) >= 0
            # two clocks, the engine's and the host's, agree on the token: what is left are the host's calls
            assert -0.02 <= after["shares"]["calls"] <= 0.5
            assert all(pieces[name] > 0 for name in ("query", "gate", "down", "output", "attention", "norm"))
        assert min(result["tokens_per_s"].values()) > 0
    assert "Roofline" in page.read_text()
