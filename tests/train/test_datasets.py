"""Data sets through the `datasets` library, offline: files, folders, fields, and what goes wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ruvq.errors import StorageError, UsageError
from ruvq.train.data import read_records
from ruvq.train.datasets import read_dataset

ROWS = [
    {"q": "How many?", "a": "1 + 1 = 2\n#### 2", "text": "first"},
    {"q": "And then?", "a": "2 + 2 = 4\n#### 4", "text": "second"},
]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def lines(path: Path) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def test_json_and_parquet_give_the_same_records(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    path = lines(tmp_path / "a.jsonl")
    found = read_dataset(str(path))
    assert found == read_records([path])
    assert [r.text for r in found] == ["first", "second"]
    pairs = read_dataset(str(tmp_path / "a.parquet"), ("q", "a"))
    assert pairs == read_dataset(str(path), ("q", "a"))
    first = pairs[0]
    assert first.text == "How many?\n1 + 1 = 2\n#### 2"
    assert [first.text[a:b] for a, b in first.steps] == ["1 + 1 = 2"]  # GSM8K's steps under other names
    assert [r.text for r in read_dataset(str(path), ("q",))] == ["How many?", "And then?"]


def test_a_folder_has_splits(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    lines(tmp_path / "set/train.jsonl")
    lines(tmp_path / "set/test.jsonl")
    assert len(read_dataset(str(tmp_path / "set"), ("a",), "test")) == 2
    with pytest.raises(StorageError, match="can't be loaded"):
        read_dataset(str(tmp_path / "set"), (), "dev")


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl")
    with pytest.raises(UsageError) as caught:
        read_dataset(str(path), ("question",))
    assert "record 1" in caught.value.subject
    assert "q, a, text" in caught.value.actual
    (tmp_path / "a.bin").write_bytes(b"x")
    with pytest.raises(UsageError, match="no data set's file"):
        read_dataset(str(tmp_path / "a.bin"))
    (tmp_path / "b.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(StorageError):
        read_dataset(str(tmp_path / "b.parquet"))
    with pytest.raises(StorageError):
        read_dataset("no/such-set")
    (tmp_path / "empty.jsonl").write_text('{"text": " "}\n')
    with pytest.raises(UsageError, match="no text"):
        read_dataset(str(tmp_path / "empty.jsonl"))
