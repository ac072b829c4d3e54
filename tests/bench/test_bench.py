"""The benchmark runs whole on small shapes and reports every figure it promises."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_benchmark_measures_both_hosts_and_every_format(repository: Path, tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    command = [
        sys.executable,
        "build/bench/run.py",
        "--quick",
        "--formats",
        "pi-t2",
        "q8_0",
        "--output",
        output,
    ]
    run = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == str(output)
    report = json.loads(output.read_text())
    for host in ("native", "chromium"):
        for shape in report["kernels"][host].values():
            assert shape["memcpy"]["gb_per_s"] > 0
            for name in ("pi-t2", "q8_0"):
                assert shape[name]["decode_simd_gb_per_s"] > 0
                assert shape[name]["matvec_scalar_ns_per_weight"] > 0
        for name in ("pi-t2", "q8_0"):
            figures = report["models"]["tiny"][host][name]
            assert figures["decode_tokens_per_s"]["median"] > 0
            assert figures["prompt_tokens_per_s"]["samples"] == 1
    assert report["machine"]["processor"]
