"""Threads in a page: native's bits; one thread and a reason where there are none; isolation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from web_formats import FORMATS, GREEDY_TOKENS

from browser import ISOLATION, serving

RUN = """async ([format, options, tokens]) => {
  const { Model } = await import("/ruvq.js");
  const model = await Model.fetch(`/models/${format}.gguf`, { kv: "f32", hashes: true, ...options });
  try {
    let text = "";
    for await (const piece of model.generate("", { temperature: 0, maxTokens: tokens })) text += piece;
    const { threads, threadsNote } = model.info;
    return { text, hashes: Array.from(await model.hashes()), threads, note: threadsNote };
  } finally {
    model.dispose();
  }
}"""


def run(page: Any, format: str, **options: Any) -> dict[str, Any]:
    """Text, hashes, and with how many threads."""
    return page.evaluate(RUN, [format, options, GREEDY_TOKENS])


@pytest.fixture
def bare_page(browser: Any, site_folder: Path) -> Iterator[Any]:
    """A page of a server that sends no isolation headers."""
    with serving(site_folder, without=ISOLATION) as url:
        context = browser.new_context()
        opened = context.new_page()
        opened.goto(f"{url}/blank.html")
        yield opened
        context.close()


@pytest.mark.parametrize("name", FORMATS)
def test_two_threads_give_natives_text_and_hashes(
    page: Any, native_run: Callable[[str], dict[str, Any]], name: str
) -> None:
    found = run(page, name, threads=2, splitAll=True)
    assert (found.pop("threads"), found.pop("note")) == (2, "")
    assert found == native_run(name)


@pytest.mark.parametrize("threads", [1, 3, 7])
def test_any_number_of_threads_does(
    page: Any, native_run: Callable[[str], dict[str, Any]], threads: int
) -> None:
    found = run(page, "pi-t3", threads=threads, splitAll=True)
    assert found["threads"] == threads
    assert {key: found[key] for key in ("text", "hashes")} == native_run("pi-t3")


def test_the_page_makes_all_workers(page: Any) -> None:
    """A worker's own `new Worker` now and then never returns in Firefox (page_worker.js)."""
    page.evaluate(
        """() => { window.made = []; window.Worker = class extends Worker {
          constructor(url, options) { super(url, options); made.push(new URL(url, location).pathname); }
        }; }"""
    )
    assert run(page, "pi-t3", threads=3)["threads"] == 3
    assert page.evaluate("made") == ["/worker.js", "/pool-worker.js", "/pool-worker.js"]


PREPARED = """async ([prepared, wanted]) => {
  const { Model } = await import("/ruvq.js");
  let made = 0;
  window.Worker = class extends Worker { constructor(...all) { super(...all); made += 1; } };
  Model.prepare(prepared);
  const load = (options) => Model.fetch("/models/pi-t3.gguf", options);
  const first = await load(wanted).catch((error) => error);
  if (first instanceof Error) return { error: first.name, made };
  const second = await load(wanted); // has a worker of its own
  const texts = [];
  for (const model of [first, second]) {
    const run = model.generate("", { temperature: 0, maxTokens: 20 });
    for await (const piece of run) void piece;
    texts.push(run.text);
    model.dispose();
  }
  return { made, same: texts[0] === texts[1] && texts[0].length > 0, threads: first.info.threads };
}"""


def test_an_engine_that_was_prepared_is_taken(page: Any) -> None:
    found = page.evaluate(PREPARED, [{"threads": 2}, {"threads": 2}])
    assert found == {"made": 4, "same": True, "threads": 2}  # two workers, a helper each


def test_an_engine_that_was_prepared_otherwise_is_not(page: Any) -> None:
    found = page.evaluate(PREPARED, [{"threads": 1}, {"threads": 2}])
    assert found == {"made": 5, "same": True, "threads": 2}


def test_what_fails_in_preparing_is_said_in_loading(page: Any) -> None:
    options = {"wasmURL": "/missing.wasm", "threads": 1}
    assert page.evaluate(PREPARED, [options, options]) == {"error": "DownloadError", "made": 1}


def test_without_isolation_one_thread_does_the_same_and_says_why(
    bare_page: Any, native_run: Callable[[str], dict[str, Any]]
) -> None:
    found = run(bare_page, "pi-t3", threads=4)
    assert found["threads"] == 1
    assert "isolated" in found["note"]
    assert {key: found[key] for key in ("text", "hashes")} == native_run("pi-t3")
    report = bare_page.evaluate("import('/ruvq.js').then((m) => m.diagnose())")
    assert (report["threads"], report["defaultThreads"]) == (False, 1)
    assert [line.split(":")[0] for line in report["missingHeaders"]] == list(ISOLATION)
    assert all(header in report["advice"][0] for header in ISOLATION)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"poolWorkerURL": "/missing.js"}, "missing.js"),
        ({"wasmThreadsURL": "/missing.wasm"}, "status 404"),
        ({"wasmThreadsURL": "/blank.html"}, "not a WebAssembly module"),
        ({"wasmThreadsURL": "/ruvq.wasm"}, "threads"),
        ({"wasmURL": "/ruvq.wasm"}, "without wasmThreadsURL"),
    ],
)
def test_what_fails_about_threads_leaves_one_thread_and_a_reason(
    page: Any, native_run: Callable[[str], dict[str, Any]], options: dict[str, str], reason: str
) -> None:
    found = run(page, "pi-t2", threads=3, **options)
    assert found["threads"] == 1
    assert reason in found["note"]
    assert {key: found[key] for key in ("text", "hashes")} == native_run("pi-t2")


def test_a_device_that_reserves_little_memory_gets_what_it_can(
    page: Any, native_run: Callable[[str], dict[str, Any]]
) -> None:
    """The worker meets a WebAssembly.Memory that refuses to reserve more than 512 MiB."""
    page.evaluate(
        """() => { window.small = URL.createObjectURL(new Blob([`
          const Memory = WebAssembly.Memory;
          WebAssembly.Memory = class extends Memory {
            constructor(wanted) {
              if (wanted.maximum > 8192) throw new RangeError("could not allocate memory");
              super(wanted);
            }
          };
          import("${location.origin}/worker.js").then(() => held.forEach((e) => self.onmessage(e)));
          const held = [];
          self.onmessage = (event) => held.push(event);
        `], { type: "text/javascript" })); }"""
    )
    found = page.evaluate(
        f"async (args) => ({RUN})([args[0], {{ ...args[1], workerURL: window.small }}, args[2]])",
        ["pi-t3", {"threads": 2, "splitAll": True}, GREEDY_TOKENS],
    )
    assert (found["threads"], found["note"]) == (2, "")
    assert {key: found[key] for key in ("text", "hashes")} == native_run("pi-t3")


def test_a_model_too_large_for_shared_memory_runs_on_one_thread(
    page: Any, native_run: Callable[[str], dict[str, Any]]
) -> None:
    page.evaluate(
        """() => { window.small = URL.createObjectURL(new Blob([`
          const Memory = WebAssembly.Memory;
          WebAssembly.Memory = class extends Memory {
            constructor(wanted) {
              if (wanted.maximum > 4096) throw new RangeError("could not allocate memory");
              super({ ...wanted, maximum: 34 });
            }
          };
          import("${location.origin}/worker.js").then(() => held.forEach((e) => self.onmessage(e)));
          const held = [];
          self.onmessage = (event) => held.push(event);
        `], { type: "text/javascript" })); }"""
    )
    found = page.evaluate(
        f"async (args) => ({RUN})([args[0], {{ ...args[1], workerURL: window.small }}, args[2]])",
        ["f32", {"threads": 2}, GREEDY_TOKENS],
    )
    assert found["threads"] == 1
    assert "256 MB" in found["note"]
    assert {key: found[key] for key in ("text", "hashes")} == native_run("f32")


@pytest.mark.parametrize("threads", [0, -1, 1.5, 65, "two"])
def test_numbers_of_threads_that_make_no_sense_are_refused(page: Any, threads: Any) -> None:
    name = page.evaluate(
        """(threads) => import("/ruvq.js").then(({ Model }) => Model.fetch("/models/f32.gguf", { threads }))
          .then((model) => { model.dispose(); return "none"; }, (error) => error.name)""",
        threads,
    )
    assert name == "UsageError"


@pytest.mark.slow
def test_twenty_loads_and_disposals_leave_no_worker_behind(page: Any) -> None:
    """Helpers sleep inside the engine when their model is disposed of."""
    assert len(page.workers) == 0
    page.evaluate(
        """async () => {
          const { Model } = await import("/ruvq.js");
          for (let round = 0; round < 20; round += 1) {
            const model = await Model.fetch("/models/pi-t3.gguf", { threads: 4, splitAll: true });
            if (model.info.threads !== 4) throw new Error(model.info.threadsNote);
            const controller = new AbortController();
            const generation = model.generate("Once", { maxTokens: 50, signal: controller.signal });
            for await (const piece of generation) if (piece && round % 2) controller.abort();
            model.dispose();
          }
        }"""
    )
    deadline = time.monotonic() + 10
    while page.workers and time.monotonic() < deadline:
        page.wait_for_timeout(100)
    assert len(page.workers) == 0
    # what is gone can be had again: a new model gets all its helpers at once
    assert run(page, "pi-t3", threads=8)["threads"] == 8


def test_a_page_may_own_the_threads_itself(page: Any, native_run: Callable[[str], dict[str, Any]]) -> None:
    """Its main thread may not sleep, only look again and again."""
    found = page.evaluate(
        """async (tokens) => {
          const { Engine } = await import("/engine.js");
          const { LocalModel } = await import("/local_model.js");
          const { Pool } = await import("/threads.js");
          const engine = await Engine.load("/ruvq-threads.wasm", { shared: true });
          engine.pool = new Pool(engine, 2, { splitAll: true });
          engine.pool.start("/pool-worker.js");
          await engine.pool.started;
          const bytes = await (await fetch("/models/pi-t3.gguf")).arrayBuffer();
          const model = LocalModel.fromBytes(engine, bytes, { kv: "f32", hashes: true });
          let text = "";
          const options = { temperature: 0, maxTokens: tokens };
          for (const step of model.generate("", options)) text += step.text ?? "";
          const hashes = Array.from(model.hashes());
          engine.pool.close();
          return { text, hashes, threads: model.info.threads };
        }""",
        GREEDY_TOKENS,
    )
    assert found.pop("threads") == 2
    assert found == native_run("pi-t3")


def test_node_gives_the_same_with_worker_threads(
    node: Callable[..., Any], models: Path, native_run: Callable[[str], dict[str, Any]]
) -> None:
    options = '{"open": {"kv": "f32", "hashes": true}, "generate": {"temperature": 0, "maxTokens": 60}}'
    runs = node("node_threads.mjs", models / "pi-t2.gguf", "[1, 2, 5]", options)
    assert [(r.pop("threads"), r.pop("note")) for r in runs] == [(n, "") for n in (1, 1, 2, 2, 5, 5)]
    assert all(r == native_run("pi-t2") for r in runs)
