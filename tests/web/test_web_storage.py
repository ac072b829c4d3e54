"""Where models are kept: nothing half-loaded is ever used, downloads go on where they broke off, two tabs
download once, and a model loads even where it can't be kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from split_gguf import split, write

import ruvq
from browser import page_at, serving

# Loads a model and says how it went. Options that are functions can't be passed, so faults have names.
LOAD = """async ([url, options]) => {
  const { Model, RuvqError, MemoryStorage } = await import("/ruvq.js");
  const events = [];
  const { storage: kind, text = true, ...rest } = options;
  const storage = kind && globalThis.storages?.[kind];
  try {
    const model = await Model.fetch(url, { ...rest, storage, onProgress: (event) => events.push(event) });
    const pieces = [];
    if (text) for await (const p of model.generate("", { maxTokens: 20, temperature: 0 })) pieces.push(p);
    model.dispose();
    const { info, source, notices } = model;
    return { text: pieces.join(""), info, source, notices, events };
  } catch (error) {
    const { name, code, subject, expected, actual, hint, message } = error;
    const typed = error instanceof RuvqError;
    return { name, code, subject, expected, actual, hint, message, typed, events };
  }
}"""

LIST = """async () => {
  const { ModelLibrary } = await import("/ruvq.js");
  return (await ModelLibrary.open()).list();
}"""

# All files of the store, as they lie there.
FILES = """async () => {
  const { OpfsStorage } = await import("/ruvq.js");
  return (await (await OpfsStorage.open()).list()).map((file) => file.name.replace(/^[0-9a-f]+-/, ""));
}"""


@pytest.fixture
def own_site(site_folder: Path) -> Iterator[str]:
    """A server that no other test has asked for anything."""
    with serving(site_folder) as url:
        yield url


@pytest.fixture
def tab(browser: Any, own_site: str) -> Iterator[Any]:
    """A page with a store of its own."""
    with page_at(browser, f"{own_site}/blank.html") as page:
        yield page


@pytest.fixture
def story(models: Path) -> str:
    with ruvq.Model.open(models / "f32.gguf") as model:
        return "".join(model.generate("", 20, temperature=0))


def load(page: Any, url: str, **options: Any) -> dict[str, Any]:
    result = page.evaluate(LOAD, [url, options])
    for event in result["events"]:
        assert event["total"] is None or event["loaded"] <= event["total"], event
    return result


def phases(result: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(event["phase"] for event in result["events"]))


def digest(models: Path, name: str) -> str:
    return hashlib.sha256((models / name).read_bytes()).hexdigest()


def test_a_model_is_kept_and_loads_without_a_network(tab: Any, models: Path, story: str) -> None:
    url = "/fault/once?file=models/f32.gguf"
    first, second = load(tab, url), load(tab, url)
    assert (first["text"], second["text"]) == (story, story)
    assert phases(first) == ["engine", "download", "verify", "ready"]
    assert phases(second) == ["engine", "cache", "ready"]
    assert (first["source"]["fromStore"], second["source"]["fromStore"]) == (False, True)
    size = (models / "f32.gguf").stat().st_size
    assert [e["loaded"] for e in second["events"] if e["phase"] == "cache"][-1] == size
    assert first["source"]["sha256"] == second["source"]["sha256"] == [digest(models, "f32.gguf")]
    (kept,) = tab.evaluate(LIST)
    assert (kept["complete"], kept["bytes"], kept["sha256"]) == (True, size, digest(models, "f32.gguf"))
    assert sorted(tab.evaluate(FILES)) == ["once.gguf", "once.json"]


def test_no_store_keeps_nothing_and_only_if_cached_asks_nobody(tab: Any, own_site: str) -> None:
    url = "/models/pi-t3.gguf"
    refused = load(tab, url, cache="only-if-cached")
    assert (refused["name"], refused["actual"]) == ("DownloadError", "none")
    assert load(tab, url, cache="no-store")["source"]["kept"] == [False]
    assert tab.evaluate(LIST) == []
    assert load(tab, url)["source"]["kept"] == [True]
    assert load(tab, url, cache="only-if-cached")["source"]["fromStore"] is True
    assert load(tab, url, cache="reload")["source"]["fromStore"] is False
    assert load(tab, url, cache="always")["name"] == "UsageError"


def test_a_download_that_breaks_off_goes_on_by_itself(tab: Any, story: str, models: Path) -> None:
    result = load(tab, "/fault/breaks?file=models/f32.gguf", sha256=digest(models, "f32.gguf"))
    assert result["text"] == story
    loaded = [e["loaded"] for e in result["events"] if e["phase"] == "download"]
    assert loaded == sorted(loaded)  # never from the beginning again


def test_a_server_that_ignores_the_range_starts_the_file_again(tab: Any, story: str) -> None:
    result = load(tab, "/fault/ignores?file=models/f32.gguf")
    assert result["text"] == story
    assert sorted(tab.evaluate(FILES)) == ["ignores.gguf", "ignores.json"]


def test_a_file_that_changed_meanwhile_is_not_mixed(tab: Any, story: str, models: Path) -> None:
    result = load(tab, "/fault/changes?file=models/f32.gguf")
    assert result["text"] == story
    assert result["source"]["sha256"] == [digest(models, "f32.gguf")]


def test_a_killed_tab_leaves_a_part_that_the_next_one_goes_on_with(
    browser: Any, own_site: str, models: Path, story: str
) -> None:
    context = browser.new_context()
    url = "/fault/hangs?file=models/f32.gguf"
    first = context.new_page()
    first.goto(f"{own_site}/blank.html")
    first.evaluate(
        """([url]) => import("/ruvq.js").then(({ Model }) => {
          Model.fetch(url, { onProgress: (event) => { globalThis.last = event; } }).catch(() => {});
        })""",
        [url],
    )
    half = (models / "f32.gguf").stat().st_size // 2
    first.wait_for_function(f"globalThis.last?.loaded >= {half}")
    first.close()
    second = context.new_page()
    second.goto(f"{own_site}/blank.html")
    (part,) = second.evaluate(LIST)
    assert not part["complete"]
    assert half - (1 << 18) <= part["bytes"] <= half
    result = load(second, url)
    assert result["text"] == story
    assert phases(result) == ["engine", "cache", "download", "verify", "ready"]
    first_download = next(e["loaded"] for e in result["events"] if e["phase"] == "download")
    assert first_download > part["bytes"]
    (kept,) = second.evaluate(LIST)
    assert kept["complete"]
    context.close()


def test_two_tabs_download_once(browser: Any, own_site: str, story: str) -> None:
    context = browser.new_context()
    pages = [context.new_page() for _ in range(2)]
    for page in pages:
        page.goto(f"{own_site}/blank.html")
        page.evaluate(f"globalThis.load = {LOAD}; globalThis.result = null")
    for page in pages:
        page.evaluate(
            """() => {
              load(["/fault/once?file=models/f32.gguf", {}]).then((r) => { globalThis.result = r; });
            }"""
        )
    results = []
    for page in pages:
        page.wait_for_function("globalThis.result !== null")
        results.append(page.evaluate("globalThis.result"))
    assert [result.get("text") for result in results] == [story, story]
    assert sorted(result["source"]["fromStore"] for result in results) == [False, True]
    context.close()


def test_the_expected_digest_decides_from_the_network_and_from_the_store(tab: Any, models: Path) -> None:
    url, right, wrong = "/models/f32.gguf", digest(models, "f32.gguf"), "0" * 64
    refused = load(tab, url, sha256=wrong)
    assert (refused["name"], refused["expected"]) == ("IntegrityError", f"SHA-256 {wrong}")
    assert tab.evaluate(FILES) == []
    assert load(tab, url, sha256=right.upper())["source"]["fromStore"] is False
    assert load(tab, url, sha256=right)["source"]["fromStore"] is True
    assert load(tab, url, sha256=wrong)["name"] == "IntegrityError"
    assert load(tab, url, bytes=10)["name"] == "IntegrityError"
    assert load(tab, url, sha256="abc")["name"] == "UsageError"


def test_a_damaged_kept_copy_is_fetched_again(tab: Any, models: Path, story: str) -> None:
    url = "/models/f32.gguf"
    load(tab, url)
    damage = """async (how) => {
      const root = await navigator.storage.getDirectory();
      const folder = await root.getDirectoryHandle("ruvq-models");
      for await (const [name, handle] of folder.entries()) {
        if (!name.endsWith(how === "note" ? ".json" : ".gguf")) continue;
        const stream = await handle.createWritable({ keepExistingData: true });
        const data = new Uint8Array([1, 2, 3]);
        if (how === "byte") await stream.write({ type: "write", position: 500000, data });
        if (how === "cut") await stream.truncate(400000);
        if (how === "note") await stream.truncate(10);
        await stream.close();
      }
    }"""
    for how, kinds in (("byte", ["repair"]), ("cut", []), ("note", [])):
        tab.evaluate(damage, how)
        result = load(tab, url)
        assert result["text"] == story, how
        assert result["source"]["fromStore"] is False, how
        assert [notice["kind"] for notice in result["notices"]] == kinds, how
    assert load(tab, url)["source"]["fromStore"] is True


def test_a_file_whose_own_digests_fail_is_not_kept(tab: Any, site_folder: Path, models: Path) -> None:
    data = bytearray((models / "pi-t3.gguf").read_bytes())
    data[-100] ^= 1
    (site_folder / "models" / "damaged.gguf").write_bytes(data)
    refused = load(tab, "/models/damaged.gguf")
    assert refused["name"] in ("IntegrityError", "DataError")
    assert tab.evaluate(FILES) == []


def test_a_page_instead_of_a_model_is_not_kept(tab: Any) -> None:
    assert load(tab, "/fault/html")["code"] == "RQ_E_MAGIC"
    assert tab.evaluate(FILES) == []


# ---- storages of other kinds ----

STORAGES = """async () => {
  const { MemoryStorage, QuotaError } = await import("/ruvq.js");
  class Counting extends MemoryStorage {
    constructor(name, options) { super(options); this.name = name; }
  }
  class Failing extends Counting {
    async write() { throw new Error("the disk is on fire"); }
  }
  class Full extends Counting { // says so only when it is
    constructor(name) { super(name); this.left = 300000; this.limitBytes = undefined; }
    async write(name, offset, bytes) {
      this.left -= bytes.length;
      if (this.left < 0) throw new DOMException("no", "QuotaExceededError");
    }
  }
  globalThis.storages = {
    mine: new Counting("mine"), small: new Counting("small", { limitBytes: 1000 }),
    failing: new Failing("failing"), full: new Full("full"),
  };
}"""


def test_a_page_brings_its_own_storage(tab: Any, story: str) -> None:
    tab.evaluate(STORAGES)
    url = "/fault/once?file=models/f32.gguf"
    assert load(tab, url, storage="mine")["source"]["fromStore"] is False
    again = load(tab, url, storage="mine")
    assert (again["text"], again["source"]["fromStore"]) == (story, True)
    assert tab.evaluate(LIST) == []  # nothing in OPFS


@pytest.mark.parametrize(("storage", "kind"), [("small", "quota"), ("full", "quota"), ("failing", "storage")])
def test_a_model_that_cannot_be_kept_loads_with_a_notice(
    tab: Any, story: str, storage: str, kind: str
) -> None:
    tab.evaluate(STORAGES)
    result = load(tab, "/models/f32.gguf", storage=storage)
    assert result["text"] == story
    assert [notice["kind"] for notice in result["notices"]] == [kind]
    assert result["source"]["kept"] == [False]


def test_without_a_file_system_models_are_kept_in_memory_with_a_notice(tab: Any, story: str) -> None:
    # the worker asks the same way, so that its file system is taken away too
    tab.route(
        "**/storage.js",
        lambda route: route.fulfill(
            response=(answer := route.fetch()),
            body=answer.text().replace("navigator.storage.getDirectory()", "navigator.storage.none()"),
        ),
    )
    url = "/fault/once?file=models/f32.gguf"
    first, second = load(tab, url), load(tab, url)
    assert (first["text"], second["text"]) == (story, story)
    assert [notice["kind"] for notice in first["notices"]] == ["memory"]
    assert second["source"]["fromStore"] is True


def test_the_library_lists_verifies_and_deletes(tab: Any, models: Path) -> None:
    load(tab, "/models/f32.gguf")
    report = tab.evaluate(
        """async ([sha256]) => {
          const { ModelLibrary } = await import("/ruvq.js");
          const library = await ModelLibrary.open();
          const events = [];
          const ahead = await library.download("/models/pi-t3.gguf", { onProgress: (e) => events.push(e) });
          const verified = await library.verify("/models/f32.gguf");
          const before = await library.list();
          const estimate = await library.estimate();
          await library.delete("/models/f32.gguf");
          const after = await library.list();
          const gone = await library.verify("/models/f32.gguf").catch((error) => error.name);
          const wrong = await library.download("/models/f32.gguf", { sha256 }).catch((error) => error.name);
          await library.clear();
          return { kind: library.kind, ahead, events, verified, before, estimate, after, gone, wrong,
            last: await library.list() };
        }""",
        ["1" * 64],
    )
    assert report["kind"] == "opfs"
    assert report["ahead"]["sha256"] == digest(models, "pi-t3.gguf")
    assert report["verified"]["sha256"] == digest(models, "f32.gguf")
    assert {entry["url"].split("/")[-1] for entry in report["before"]} == {"f32.gguf", "pi-t3.gguf"}
    assert [entry["url"].split("/")[-1] for entry in report["after"]] == ["pi-t3.gguf"]
    sizes = [(models / name).stat().st_size for name in ("f32.gguf", "pi-t3.gguf")]
    assert sum(sizes) <= report["estimate"]["used"] <= sum(sizes) + 2000
    assert report["events"][-1] == {"phase": "download", "loaded": sizes[1], "total": sizes[1]}
    assert (report["gone"], report["wrong"], report["last"]) == ("StorageError", "IntegrityError", [])


def test_fetching_ahead_without_room_is_a_quota_error(tab: Any) -> None:
    tab.evaluate(STORAGES)
    error = tab.evaluate(
        """async () => {
          const { ModelLibrary } = await import("/ruvq.js");
          const library = await ModelLibrary.open({ storage: storages.small });
          const tell = ({ name, expected, hint }) => ({ name, expected, hint });
          return library.download("/models/f32.gguf").catch(tell);
        }"""
    )
    assert error["name"] == "QuotaError"
    assert error["hint"]


# ---- shards ----


@pytest.fixture(scope="module")
def shards(models: Path) -> list[Path]:
    """The f32 model in three files beside it."""
    data = (models / "f32.gguf").read_bytes()
    with ruvq.GGUFFile.open(data) as file:
        count = len(file.tensors)
    return write(models, "f32", split(data, [0, count // 2, count - count // 2]))


def test_a_model_in_several_files_is_one_stream_and_is_kept(tab: Any, shards: list[Path], story: str) -> None:
    url, total = f"/models/{shards[0].name}", sum(path.stat().st_size for path in shards)
    result = load(tab, url)
    assert result["text"] == story
    downloads = [event for event in result["events"] if event["phase"] == "download"]
    assert {event["total"] for event in downloads} == {total}
    assert downloads[-1]["loaded"] == total
    assert [event["loaded"] for event in downloads] == sorted(event["loaded"] for event in downloads)
    again = load(tab, url, sha256=[hashlib.sha256(path.read_bytes()).hexdigest() for path in shards])
    assert (again["text"], again["source"]["fromStore"]) == (story, True)
    assert len(tab.evaluate(LIST)) == 3


def test_wrong_shards_are_refused(tab: Any, shards: list[Path], models: Path, story: str) -> None:
    urls = [f"/models/{path.name}" for path in shards]
    assert load(tab, urls)["text"] == story
    for wrong in (urls[:2], [urls[0], urls[2], urls[1]], [urls[0], urls[1], urls[1]], [urls[1]]):
        refused = load(tab, wrong, cache="no-store")
        assert refused["code"] == "RQ_E_SHARD", wrong
    (models / "f32-00002-of-00002.gguf").write_bytes(shards[1].read_bytes())
    (models / "f32-00001-of-00002.gguf").write_bytes(shards[0].read_bytes())
    assert load(tab, "/models/f32-00001-of-00002.gguf", cache="no-store")["code"] == "RQ_E_SHARD"
    (models / "gone-00001-of-00003.gguf").write_bytes(shards[0].read_bytes())
    missing = load(tab, "/models/gone-00001-of-00003.gguf", cache="no-store")
    assert (missing["name"], "404" in missing["actual"]) == ("DownloadError", True)


def test_files_of_the_page_are_opened_in_order(tab: Any, shards: list[Path], story: str) -> None:
    text = tab.evaluate(
        """async (urls) => {
          const { Model } = await import("/ruvq.js");
          const blobs = await Promise.all(urls.map(async (url) => (await fetch(url)).blob()));
          const model = await Model.open(blobs);
          const pieces = [];
          for await (const piece of model.generate("", { maxTokens: 20, temperature: 0 })) pieces.push(piece);
          model.dispose();
          return pieces.join("");
        }""",
        [f"/models/{path.name}" for path in shards],
    )
    assert text == story


# ---- memory ----


def test_the_memory_budget_is_kept_and_refuses_early(tab: Any, shards: list[Path]) -> None:
    budget = 4 * 2**20
    refused = load(tab, "/fault/huge?file=models/pi-t3.gguf", memoryBudget=budget)
    assert refused["name"] == "MemoryLimitError"
    assert "4.0 MB" in refused["actual"]
    assert "download" not in phases(refused)
    late = load(tab, "/models/f32.gguf", memoryBudget=5 * 2**19, context=512, batch=512, threads=1)
    assert late["name"] == "MemoryLimitError"
    assert "limit is 2.5 MB" in late["actual"]
    fits = load(tab, "/models/f32.gguf", memoryBudget=2 * budget, context=256, threads=1)
    assert fits["text"]
    assert load(tab, "/models/f32.gguf", memoryBudget=5)["name"] == "UsageError"


def test_phones_have_a_budget_of_their_own(browser: Any, own_site: str) -> None:
    with page_at(browser, f"{own_site}/blank.html", has_touch=True, is_mobile=True) as page:
        refused = load(page, "/fault/huge?file=models/pi-t3.gguf")
    assert "1024.0 MB" in refused["actual"]
