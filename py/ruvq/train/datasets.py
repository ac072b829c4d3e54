"""Records from a data set of the Hugging Face `datasets` library: a name, a folder, or a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import MissingDependencyError, StorageError, UsageError
from .data import Record, record_of

BUILDERS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv", ".txt": "text"}


def read_dataset(name: str, fields: Sequence[str] = (), split: str = "train") -> list[Record]:
    """All records of a split. `name`: a local .jsonl, .json, .parquet, .csv or .txt file, a local folder, or
    a data set's name on the hub, perhaps with ":CONFIGURATION". `fields`: one that holds the text, or two,
    the question's and the answer's; none: as `read_records` looks for them.

    Raises MissingDependencyError, StorageError (it can't be loaded), UsageError (other fields, no text).
    """
    data = _loaded(name, split)
    out = [_record(dict(row), fields, f"{name}, record {at}") for at, row in enumerate(data, 1)]
    out = [record for record in out if record.text.strip()]
    if not out:
        raise UsageError("there is no text to train on", subject=name, expected="at least one record")
    return out


def _loaded(name: str, split: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise MissingDependencyError(
            "datasets is needed to read one", actual=str(error), hint="run `pip install 'ruvq[train]'`"
        ) from error
    path = Path(name)
    datasets.disable_progress_bars()
    try:
        if path.is_file():
            builder = BUILDERS.get(path.suffix)
            if builder is None:
                raise UsageError(
                    "no data set's file", subject=name, expected=", ".join(BUILDERS), actual=path.suffix
                )
            return datasets.load_dataset(builder, data_files={split: str(path)}, split=split)
        if path.is_dir():
            return datasets.load_dataset(str(path), split=split)
        hub, _, configuration = name.partition(":")
        return datasets.load_dataset(hub, configuration or None, split=split)
    except UsageError:
        raise
    except Exception as error:  # the library raises what its readers, its network and its cache raise
        raise StorageError(
            "the data set can't be loaded", subject=name, expected=f"a file, folder or name with {split}",
            actual=f"{type(error).__name__}: {error}"[:160], hint="check the name and --dataset-split",
        ) from error  # fmt: skip


def _record(row: dict[str, Any], fields: Sequence[str], where: str) -> Record:
    if not fields:
        return record_of(row, where)
    missing = [field for field in fields if not isinstance(row.get(field), str)]
    if missing or len(fields) > 2:
        raise UsageError(
            "a record lacks the fields that are trained on", subject=where,
            expected="one or two fields of text: " + ", ".join(fields), actual=", ".join(row),
            hint="name them with --dataset-field TEXT or QUESTION,ANSWER",
        )  # fmt: skip
    names = ("text",) if len(fields) == 1 else ("question", "answer")
    kept = {"reasoning": row["reasoning"]} if isinstance(row.get("reasoning"), str) else {}
    return record_of({**dict(zip(names, (row[f] for f in fields), strict=True)), **kept}, where)
