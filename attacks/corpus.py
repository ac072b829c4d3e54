"""Every hostile file in one list, for every host:

    python -m attacks.corpus FOLDER

writes each as a file, and index.json with what must happen: {"file", "attack", "stage", "code", "says"}.
`code` is null where the file must be accepted; the fields are those of case.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from attacks import accepted, container, data, model, onnx_files, sources, tokenizer
from attacks.case import SOURCES, Case


def gguf_cases() -> list[Case]:
    """Those that are, or pretend to be, GGUF files; names unique."""
    return _cases(container, tokenizer, model, data, accepted)


def corpus() -> list[Case]:
    """Every case, names unique."""
    return gguf_cases() + _cases(sources, onnx_files)


def _cases(*modules: object) -> list[Case]:
    cases = [case for module in modules for generate in module.GENERATORS for case in generate()]  # type: ignore[attr-defined]
    names = [case.name for case in cases]
    assert len(set(names)) == len(names), sorted(n for n in names if names.count(n) > 1)
    return cases


def write_corpus(folder: Path, cases: list[Case] | None = None) -> None:
    """Files and index.json, for hosts that don't run Python's tests."""
    folder.mkdir(parents=True, exist_ok=True)
    index = []
    for case in corpus() if cases is None else cases:
        file = f"{case.name}.{case.stage if case.stage in SOURCES else 'gguf'}"
        (folder / file).write_bytes(case.data)
        fields = {"attack": case.attack, "stage": case.stage, "code": case.code, "says": case.says}
        index.append({"file": file, **fields})
    (folder / "index.json").write_text(json.dumps(index, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    write_corpus(Path(sys.argv[1]))
