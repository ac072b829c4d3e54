"""Larger models in a page: Qwen2.5-0.5B's shape in under 130 MB of weights, and 110 million weights loaded
twenty times. The weights are random: what is measured is memory, time, and that the bits are native ones."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ruvq
from browser import CHROMIUM_FLAGS, chromium_path, serving

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "build" / "bench"))

from random_models import SHAPES, write_model  # noqa: E402

pytestmark = pytest.mark.slow
MOST_MEMORY = 1.15  # of the file, beside the KV cache
TOKENS = 12
PROMPT = "the same tokens everywhere"
CYCLES = 20

LOAD_AND_WRITE = """async ([file, prompt, maxTokens]) => {
  const { Model } = await import("/ruvq.js");
  const model = await Model.fetch(file, { hashes: true });
  const generation = model.generate(prompt, { maxTokens, temperature: 0 });
  for await (const piece of generation) void piece;
  const { info, stats, loadSeconds, engineBytes } = model;
  const hashes = Array.from(await model.hashes());
  model.dispose();
  return { info, stats, loadSeconds, engineBytes, hashes, text: generation.text };
}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The page's files with Q.gguf and K.gguf, all in pi-t2; removed at once, for their size."""
    path = tmp_path_factory.mktemp("larger")
    for item in (ROOT / "web").iterdir():
        if item.is_file():
            shutil.copyfile(item, path / item.name)
    shutil.copyfile(Path(__file__).with_name("blank.html"), path / "blank.html")
    for shape in ("Q", "K"):
        write_model(path / f"{shape}.gguf", SHAPES[shape], "pi-t2")
    yield path
    shutil.rmtree(path)


@pytest.fixture
def others(browser: Any) -> set[Path]:
    """The processes of the pages that other tests have open."""
    return set(renderers())


@pytest.fixture
def page(browser: Any, others: set[Path], folder: Path) -> Iterator[Any]:
    """An empty page in a Chromium of its own, so that a process's memory is that of one test."""
    own = browser.browser_type.launch(executable_path=chromium_path(), args=CHROMIUM_FLAGS)
    with serving(folder) as url, own:
        opened = own.new_page()
        opened.set_default_timeout(300_000)
        opened.goto(f"{url}/blank.html")
        yield opened


def renderers() -> list[Path]:
    """/proc folders of the pages of processes below this one, whose number may be the smaller one."""
    parent, commands = {}, {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent[process.name] = (process / "stat").read_text().rsplit(")", 1)[1].split()[1]
            commands[process] = (process / "cmdline").read_bytes()
        except OSError:
            continue  # it has ended

    def is_below(number: str) -> bool:
        while number in parent:
            number = parent[number]
            if number == str(os.getpid()):
                return True
        return False

    return [p for p, command in commands.items() if b"--type=renderer" in command and is_below(p.name)]


def resident(field: str, others: set[Path]) -> int:
    """Bytes of the largest renderer but `others`: "VmRSS" now, "VmHWM" at most so far."""
    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc to read a process's memory from")
    sizes = [
        int(line.split()[1]) * 1024
        for process in set(renderers()) - others
        for line in (process / "status").read_text().splitlines()
        if line.startswith(field + ":")
    ]
    return max(sizes)


def megabytes(count: int) -> str:
    """In millions of bytes."""
    return f"{count / 1e6:.1f} MB"


def test_half_a_billion_weights_run_in_a_tab_within_their_memory(
    page: Any, others: set[Path], folder: Path
) -> None:
    path = folder / "Q.gguf"
    with ruvq.Model.open(path, hashes=True) as model:
        assert model.info.parameters == 494_032_768
        assert model.info.weight_bytes < 130e6
        expected = "".join(model.generate(PROMPT, TOKENS, temperature=0))
        hashes = model.hashes()
    before = resident("VmHWM", others)
    got = page.evaluate(LOAD_AND_WRITE, ["/Q.gguf", PROMPT, TOKENS])
    taken = resident("VmHWM", others) - before
    info = got["info"]
    assert (info["architecture"], info["parameters"]) == ("qwen2", 494_032_768)
    assert info["weightBytes"] < 130e6
    assert info["fileBytes"] == path.stat().st_size
    assert got["stats"]["tokens"] == TOKENS
    assert (got["text"], got["hashes"]) == (expected, hashes)
    assert got["engineBytes"] <= MOST_MEMORY * info["fileBytes"] + info["kvBytes"]
    # with everything else a tab needs it is less than the file twice: no second copy, not even while it came
    assert info["fileBytes"] < taken < 2 * info["fileBytes"]
    assert got["stats"]["timeToFirstToken"] > 0
    beside = (got["engineBytes"] - info["kvBytes"]) / info["fileBytes"]
    load, stats = got["loadSeconds"], got["stats"]
    print(
        f"\nfile {megabytes(info['fileBytes'])}, weights {megabytes(info['weightBytes'])}, "
        f"KV cache {megabytes(info['kvBytes'])} for {info['context']} tokens\n"
        f"engine {megabytes(got['engineBytes'])}: {beside:.3f} times the file, and the KV cache; "
        f"the tab's process {megabytes(taken)} more at most\n"
        f"engine {load['engine']:.2f} s, transfer {load['transfer']:.2f} s, open {load['open']:.2f} s; "
        f"first token {stats['timeToFirstToken']:.2f} s after {stats['promptTokens']} tokens, "
        f"then {stats['tokensPerSecond']:.1f} tokens/s"
    )


def test_twenty_loads_and_disposals_in_one_page_do_not_grow_it(
    page: Any, others: set[Path], folder: Path
) -> None:
    """Every load has a worker with an engine of its own; a file of 30 MB would show within two cycles."""
    size = (folder / "K.gguf").stat().st_size
    held = []
    for _ in range(CYCLES):
        page.evaluate(LOAD_AND_WRITE, ["/K.gguf", PROMPT, 2])
        deadline = time.monotonic() + 10  # Chromium takes two seconds to end helpers that sleep
        while page.workers and time.monotonic() < deadline:
            page.wait_for_timeout(100)
        assert page.workers == []
        held.append(resident("VmRSS", others))
    print(f"\nfile {megabytes(size)}, resident after each cycle: {', '.join(map(megabytes, held))}")
    assert max(held[CYCLES // 2 :]) - min(held[2 : CYCLES // 2]) < size


def test_twenty_loads_and_disposals_in_one_engine_do_not_grow_it(node: Any, folder: Path) -> None:
    result = node("node_memory.mjs", folder / "K.gguf")
    assert set(result["held"]) == {result["held"][0]}
    assert result["refused"] == 60
