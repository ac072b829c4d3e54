"""Whole models; hosts, formats and peers interleaved round by round: tokens per second, prompt and decode.

Hosts: `native` and `chromium` are ruvq; `llama_cpp`, `wllama` and `onnxruntime_web` are the peers;
"_2_threads" is appended where two threads ran. A host that can't do two threads has no such entry: nothing is
made up for it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import native
from onnx_models import onnx_facts, onnx_files, onnx_spec
from page import in_browser
from peers import Peers, call_llama, file_facts, own_file, peer_files, wllama_letter
from timing import summary

Run = Callable[[], dict[str, float]]


class Unsupported(Exception):
    """A host ran with fewer threads than asked for."""


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def host_name(host: str, threads: int) -> str:
    return host if threads == 1 else f"{host}_{threads}_threads"


def _checked(result: dict[str, Any], threads: int) -> dict[str, float]:
    used = result.pop("threads", threads)
    if used != threads:
        raise Unsupported(f"{used} instead of {threads} threads")
    return result


def hosts_of(page: Any, peers: Peers, tokens: tuple[int, int], threads: int) -> dict[str, Callable]:
    """Host → how it runs a file; each gives seconds to open and tokens per second."""
    prompt, decode = tokens
    spec = {"promptTokens": prompt, "decodeTokens": decode, "threads": threads}

    def on_page(task: str, path: Path, **more: Any) -> dict[str, float]:
        return _checked(in_browser(page, task, url=f"/files/{path.name}", **more, **spec), threads)

    hosts: dict[str, Callable[[Path], dict[str, float]]] = {
        "native": lambda path: _checked(native.model_run(path, prompt, decode, threads), threads),
        "chromium": lambda path: on_page("model", path),
    }
    if peers.wllama:
        hosts["wllama"] = lambda path: on_page(
            "wllama", path, base="./peers/wllama", letter=wllama_letter(path)
        )
    if peers.onnx:
        hosts["onnxruntime_web"] = lambda path: on_page("onnxModel", path, **onnx_spec(path))
    if peers.llama:
        arguments = ("--threads", threads, "--prompt", prompt, "--decode", decode)
        hosts["llama_cpp"] = lambda path: call_llama("run", path, *arguments)
    return hosts


def plan(
    page: Any,
    peers: Peers,
    own: dict[str, Path],
    theirs: dict[str, Path],
    onnx: dict[str, Path],
    tokens: tuple[int, int],
    threads: Any,
) -> dict[tuple[str, str], Run]:
    """(host, format) → a run, in the order of a round: one file on all hosts before the next file."""
    runs: dict[tuple[str, str], Run] = {}
    facts = {name: file_facts(path) for name, path in theirs.items()}
    for name, path in {**own, **theirs, **onnx}.items():
        for count in threads:
            for host, run in hosts_of(page, peers, tokens, count).items():
                if (host == "onnxruntime_web") != (name in onnx):
                    continue
                ours = host in ("native", "chromium")
                # formats of ruvq's own are read by nobody else; some of ggml's not by ruvq
                if (ours and name in facts and not facts[name]["runnable"]) or (not ours and name in own):
                    continue
                runs[host_name(host, count), name] = lambda run=run, path=path: run(path)  # type: ignore[misc]
    return runs


def measure_shape(
    page: Any,
    folder: Path,
    shape: str,
    names: list[str],
    peer_names: tuple[str, ...],
    peers: Peers,
    tokens: tuple[int, int],
    rounds: int,
    threads: tuple[int, ...],
    require: bool = False,
) -> dict[str, Any]:
    """Host → format → figures, and "files": format → facts, "failed": what could not run and why."""
    own = {name: own_file(folder, shape, name) for name in names}
    theirs = peer_files(folder, shape, peer_names, peers)
    onnx = onnx_files(folder, shape, peers)
    runs = plan(page, peers, own, theirs, onnx, tokens, threads)
    samples: dict[tuple[str, str], list[dict[str, float]]] = {}
    failed: dict[str, str] = {}
    for number in range(rounds):
        log(f"model {shape}, round {number + 1} of {rounds}: {len(runs)} runs")
        for (host, name), run in list(runs.items()):
            if (host, name) not in runs:
                continue  # dropped with its host below
            try:
                samples.setdefault((host, name), []).append(run())
            except Unsupported as error:
                log(f"  {host}: {error}; left out")
                failed[host] = str(error)
                runs = {key: value for key, value in runs.items() if key[0] != host}
            except Exception as error:
                if host.startswith(("native", "chromium")) or require:
                    raise
                message = str(error).strip().splitlines()
                log(f"  {host} on {name} failed: {message[0] if message else type(error).__name__}")
                failed[f"{host} {name}"] = message[0] if message else type(error).__name__
                del runs[host, name]
    report: dict[str, Any] = {"files": {n: file_facts(path) for n, path in {**own, **theirs}.items()}}
    report["files"] |= {name: onnx_facts(path) for name, path in onnx.items()}
    report["failed"] = failed
    for (host, name), values in samples.items():
        if (host, name) not in runs:
            continue  # failed in a later round
        figures = {key: summary([value[key] for value in values]) for key in values[0]}
        facts = report["files"][name]
        sizes = {key: facts[key] for key in ("file_bytes", "bits_per_weight")}
        report.setdefault(host, {})[name] = {**sizes, **figures}
    return report
