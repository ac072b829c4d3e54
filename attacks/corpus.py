"""Every hostile input in one list, for every host:

    python -m attacks.corpus FOLDER

writes each as a file, or a folder where it is several, and index.json with what must happen: the fields of
case.py, "file" (the first one's path), "files" (all), and "code", null where the input must be accepted."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from attacks import (
    accepted,
    container,
    data,
    model,
    onnx_files,
    servers,
    shards,
    sources,
    templates,
    tokenizer,
)
from attacks.case import Case

ENDINGS = {"safetensors": ".safetensors", "onnx": ".onnx", "template": ".jinja"}


def gguf_cases() -> list[Case]:
    """Those that are, or pretend to be, one GGUF file; names unique."""
    cases = _cases(container, tokenizer, model, data, shards, accepted)
    return [case for case in cases if case.stage not in ("shards", "named")]


def corpus() -> list[Case]:
    """Every case, names unique."""
    return _cases(
        container, tokenizer, model, data, shards, accepted, templates, sources, onnx_files, servers
    )


def _cases(*modules: object) -> list[Case]:
    cases = [case for module in modules for generate in module.GENERATORS for case in generate()]  # type: ignore[attr-defined]
    names = [case.name for case in cases]
    assert len(set(names)) == len(names), sorted(n for n in names if names.count(n) > 1)
    return cases


def file_names(case: Case) -> list[str]:
    """Where its files lie in the corpus's folder."""
    if case.stage == "download":
        return [case.address]
    if case.names:
        return [f"{case.name}/{name}" for name in case.names]
    if case.more:
        return [f"{case.name}/{number}.gguf" for number in range(1 + len(case.more))]
    return [case.name + ENDINGS.get(case.stage, ".gguf")]


def write_corpus(folder: Path, cases: list[Case] | None = None) -> None:
    """Files and index.json, for hosts that don't run Python's tests."""
    folder.mkdir(parents=True, exist_ok=True)
    index = []
    for case in corpus() if cases is None else cases:
        files = file_names(case)
        if case.stage != "download":
            for file, content in zip(files, (case.data, *case.more), strict=True):
                (folder / file).parent.mkdir(exist_ok=True)
                (folder / file).write_bytes(content)
        index.append({"file": files[0], "files": files, **_verdict(case)})
    (folder / "index.json").write_text(json.dumps(index, indent=1, ensure_ascii=False) + "\n")


def _verdict(case: Case) -> dict[str, Any]:
    fields = ("name", "attack", "stage", "code", "error", "says", "tabs", "quota", "hosts")
    return {**{field: getattr(case, field) for field in fields}, "options": dict(case.options)}


if __name__ == "__main__":
    write_corpus(Path(sys.argv[1]))
