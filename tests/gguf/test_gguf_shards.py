"""Models in several files: every split gives what the whole file gives, and wrong sets are refused (class
17), natively and in the WebAssembly module."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from split_gguf import split, write

import ruvq
from attacks import shards
from ruvq import errors
from ruvq.gguf import GGUFFile, inspect

NODE = Path(__file__).resolve().parent / "shards_in_wasm.mjs"


@pytest.fixture(scope="module")
def whole(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A quantized model in one file."""
    path = tmp_path_factory.mktemp("whole") / "model.gguf"
    source = data_dir / "stories260K"
    ruvq.quantize_model(
        source / "stories260K.bin", path, "pi-t3", tokenizer=source / "tok512.bin", progress=False
    )
    return path.read_bytes()


def tensor_count(data: bytes) -> int:
    with GGUFFile.open(data) as file:
        return len(file.tensors)


def parts(whole: bytes, count: int, first: int | None = None) -> list[bytes]:
    """Split into `count` shards, the first with `first` tensors."""
    n = tensor_count(whole)
    each = [n // count] * count if first is None else [first] + [(n - first) // (count - 1)] * (count - 1)
    each[-1] += n - sum(each)
    return split(whole, each)


def story(source: Any) -> str:
    with ruvq.Model.open(source, kv="f32", hashes=True) as model:
        text = "".join(model.generate("", 40, temperature=0))
        return text + str(model.hashes())


@pytest.mark.parametrize(("count", "first"), [(2, None), (5, None), (3, 0)])
def test_a_split_model_writes_what_the_whole_one_writes(
    whole: bytes, tmp_path: Path, count: int, first: int | None
) -> None:
    paths = write(tmp_path, "story", parts(whole, count, first))
    expected = story(whole)
    assert story(paths[0]) == expected
    assert story(paths) == expected
    assert story([path.read_bytes() for path in paths]) == expected


def test_tensors_metadata_and_digests_are_those_of_the_whole_file(whole: bytes, tmp_path: Path) -> None:
    paths = write(tmp_path, "story", parts(whole, 4))
    with GGUFFile.open(whole) as one, GGUFFile.open(paths[0]) as several:
        assert several.shards == 4
        assert several.nbytes == sum(path.stat().st_size for path in paths)
        assert [(t.name, t.format, t.shape) for t in several.tensors] == [
            (t.name, t.format, t.shape) for t in one.tensors
        ]
        for tensor in one.tensors:
            assert several.tensor_bytes(tensor.name) == one.tensor_bytes(tensor.name), tensor.name
        report = several.verify()
        assert report.ok
        assert report.tensor_digests == len(one.tensors)
        assert dict(several.metadata).items() >= dict(one.metadata).items()
    assert inspect(paths[0])["bits_per_weight"] == inspect(whole)["bits_per_weight"]


def test_damage_in_a_later_shard_is_found(whole: bytes, tmp_path: Path) -> None:
    shards = parts(whole, 3)
    shards[2] = shards[2][:-200] + bytes([shards[2][-200] ^ 1]) + shards[2][-199:]
    with GGUFFile.open(write(tmp_path, "story", shards)[0]) as file:
        report = file.verify()
    assert not report.ok
    assert isinstance(report.problems[0], (errors.IntegrityError, errors.DataError))


def test_a_shard_can_be_listed_but_not_run(whole: bytes) -> None:
    second = parts(whole, 3)[1]
    assert inspect(second)["tensors"]
    with pytest.raises(errors.FileFormatError) as caught:
        ruvq.Model.open(second)
    assert caught.value.code == "RQ_E_SHARD"
    assert caught.value.subject == "shard 2 of 3"


def test_the_other_shards_are_looked_for_by_name(whole: bytes, tmp_path: Path) -> None:
    paths = write(tmp_path, "story", parts(whole, 3))
    paths[1].unlink()
    with pytest.raises(errors.StorageError, match=r"story-00002-of-00003\.gguf"):
        ruvq.Model.open(paths[0])
    renamed = paths[0].rename(tmp_path / "mine.gguf")
    with pytest.raises(errors.FileFormatError, match="its name doesn't tell") as caught:
        ruvq.Model.open(renamed)
    assert caught.value.code == "RQ_E_SHARD"


def test_wrong_sets_of_shards_are_refused_with_their_place() -> None:
    for case in (case for case in shards.sets() if case.code):
        with pytest.raises(errors.RuvqError) as caught:
            ruvq.Model.open([case.data, *case.more] if case.more else case.data, verify=True)
        assert (caught.value.code, bool(caught.value.expected)) == (case.code, True), case.name
        assert case.says in str(caught.value), (case.name, str(caught.value))


def test_every_cut_of_a_shard_is_refused(whole: bytes) -> None:
    first, second = parts(whole, 2)
    for at in range(0, len(second), 997):
        with pytest.raises(errors.FileFormatError):
            GGUFFile.open([first, second[:at]])


def test_the_wasm_module_gives_the_same_answers_and_leaks_nothing(whole: bytes, tmp_path: Path) -> None:
    right = {f"right {n}": parts(whole, n) for n in (2, 5)}
    wrong = {case.name: case for case in shards.sets() if case.code and case.more}
    sets = {**right, **{name: [case.data, *case.more] for name, case in wrong.items()}}
    index = []
    for number, (name, files) in enumerate(sets.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        index.append({"name": name, "files": [str(p) for p in write(folder, "s", files)]})
    (tmp_path / "index.json").write_text(json.dumps(index))
    run: Callable[..., Any] = subprocess.run
    done = run(["node", str(NODE), str(tmp_path / "index.json")], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    with ruvq.Model.open(whole) as model:
        story = "".join(model.generate("", 20, temperature=0))
    answers = {entry["name"]: entry for entry in json.loads(done.stdout)}
    assert set(answers) == set(sets)
    for name, entry in answers.items():
        found = entry.get("text", entry.get("code"))
        assert found == (story if name in right else wrong[name].code), name
        assert name in right or entry["leaked"] == 0, name


def test_a_model_above_its_memory_budget_is_refused_with_the_numbers(whole: bytes) -> None:
    with ruvq.Model.open(whole) as model, GGUFFile.open(whole) as file:
        needed = file.memory_bytes + model.info.memory_bytes
    ruvq.Model.open(whole, memory_budget=needed).close()
    with pytest.raises(errors.MemoryLimitError) as caught:
        ruvq.Model.open(whole, memory_budget=needed - 1)
    assert f"{needed:,}" in caught.value.actual
    assert f"{needed - 1:,}" in caught.value.expected
