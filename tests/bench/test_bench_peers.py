"""A peer that is missing is named with the way to get it and breaks nothing, unless peers are required."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parents[2] / "build" / "bench"
sys.path.insert(0, str(BENCH))

from peers import Peers, file_facts, find_peers, peer_files  # noqa: E402


@pytest.fixture
def without_llama(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUVQ_LLAMA_PYTHON", "/nowhere/python")


@pytest.mark.usefixtures("without_llama")
def test_every_missing_peer_is_named_with_the_way_to_get_it(tmp_path: Path) -> None:
    peers = find_peers(tmp_path / "site", tmp_path / "node_modules")
    assert (peers.wllama, peers.llama, peers.onnx) == (None, None, None)
    assert set(peers.missing) == {"wllama", "llama.cpp", "onnxruntime-web"}
    assert "npm ci" in peers.missing["wllama"]
    assert "[peers]" in peers.missing["llama.cpp"]


def test_an_installed_peer_is_put_on_the_site_with_its_version(tmp_path: Path) -> None:
    package = tmp_path / "node_modules" / "@wllama" / "wllama"
    (package / "esm" / "wasm").mkdir(parents=True)
    (package / "package.json").write_text('{"version": "9.8.7"}')
    (package / "esm" / "index.js").write_text("// script")
    (package / "esm" / "wasm" / "wllama.wasm").write_bytes(b"\0asm")
    peers = find_peers(tmp_path / "site", tmp_path / "node_modules")
    assert peers.wllama == {"version": "9.8.7"}
    assert (tmp_path / "site" / "peers" / "wllama" / "wasm" / "wllama.wasm").read_bytes() == b"\0asm"


def test_without_llama_cpp_only_files_written_here_are_compared(tmp_path: Path) -> None:
    files = peer_files(tmp_path, "tiny", ("Q8_0", "Q4_K_M"), Peers())
    assert list(files) == ["Q8_0"]
    facts = file_facts(files["Q8_0"])
    assert facts["runnable"]
    assert 8.5 < facts["bits_per_weight"] < 9  # Q8_0 is 8.5; the norms are float32
    assert facts["types"]["q8_0"] > 0.99


def bench(repository: Path, *arguments: Any, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "build/bench/run.py", "--quick", "--no-kernels", *map(str, arguments)]
    env = {**os.environ, **environment}
    return subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False, env=env)


def test_required_peers_that_are_missing_are_an_error(repository: Path, tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    run = bench(
        repository, "--require-peers", "--npm", tmp_path, "--output", output, RUVQ_LLAMA_PYTHON="/nowhere"
    )
    assert run.returncode == 1
    assert "peer wllama is missing" in run.stderr
    assert not output.exists()


@pytest.mark.slow
def test_the_benchmark_goes_on_without_peers(repository: Path, tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    arguments = ("--npm", tmp_path, "--formats", "pi-t2", "--output", output)
    run = bench(repository, *arguments, RUVQ_LLAMA_PYTHON="/nowhere")
    assert run.returncode == 0, run.stderr
    report = json.loads(output.read_text())
    assert set(report["peers"]["missing"]) == {"wllama", "llama.cpp", "onnxruntime-web"}
    assert report["models"]["tiny"]["chromium"]["pi-t2"]["decode_tokens_per_s"]["median"] > 0
    assert report["summary"]["tiny"]["decode_ratio_vs_best_peer_1_thread"] == {}
    assert "peer wllama is missing" in run.stderr


@pytest.mark.slow
def test_the_peers_of_pages_run_in_the_same_browser(repository: Path, tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    arguments = ("--formats", "pi-t2", "--threads", "1", "--peer-formats", "Q8_0", "--output", output)
    run = bench(repository, *arguments, RUVQ_LLAMA_PYTHON="/nowhere")
    assert run.returncode == 0, run.stderr
    report = json.loads(output.read_text())
    assert report["peers"]["wllama"]["version"] == "3.8.1"
    assert report["peers"]["wllama"]["isolated"] is True
    tiny = report["models"]["tiny"]
    assert tiny["failed"] == {}
    assert tiny["wllama"]["Q8_0"]["decode_tokens_per_s"]["median"] > 0
    assert tiny["wllama"]["Q8_0"]["bits_per_weight"] == tiny["chromium"]["Q8_0"]["bits_per_weight"]
    ratios = report["summary"]["tiny"]["decode_ratio_vs_best_peer_1_thread"]
    assert set(ratios) == {"pi-t2", "Q8_0"}
    assert set(tiny["onnxruntime_web"]) == {"int4 level 0", "int4 level 4"}
    figures = tiny["onnxruntime_web"]["int4 level 4"]
    assert figures["decode_tokens_per_s"]["median"] > 0
    assert 5 < figures["bits_per_weight"] < 16  # a small model: the embedding in f16 and the graph count
    assert set(report["summary"]["tiny"]["decode_ratio_vs_onnxruntime_web_1_thread"]) == {"pi-t2", "Q8_0"}
