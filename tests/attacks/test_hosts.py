"""The corpus of attacks/ on every host: the verdict, a typed error, bounded memory. `python -m
attacks.table` prints the same as a table, with the time that each host took."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from attacks import hosts, table
from attacks.corpus import corpus, write_corpus


@pytest.fixture(scope="module", autouse=True)
def folder() -> Path:
    """hosts.FOLDER, filled."""
    write_corpus(hosts.FOLDER)
    return hosts.FOLDER


def check(host: str, answer: hosts.Answer) -> None:
    assert len(answer["results"]) == hosts.expected_of(host)
    assert [text for result in answer["results"] if (text := hosts.wrong(result, host))] == []
    assert answer["memoryBytes"] < table.MOST_MEMORY


def test_native() -> None:
    check("native", hosts.native())


@pytest.mark.slow
def test_node() -> None:
    check("Node", hosts.node())


@pytest.mark.slow
def test_a_page_and_its_public_interface(browser: Any) -> None:
    answer = hosts.in_page(browser)
    check("page", answer)
    assert table.problems({"page": {**answer, "results": []}}) == []
    assert {opened["attack"] for opened in answer["opened"]} >= {*range(1, 16), 17, 18, 19, 20, 21}


@pytest.mark.slow
@pytest.mark.parametrize("package", ["pyodide", "pyodide-0.29"])
def test_pyodide(browser: Any, package: str) -> None:
    answer = hosts.pyodide_in_node(package=package)
    answer["results"] += hosts.downloads_in_pyodide(browser, package=package)
    check("Pyodide", answer)


def test_every_class_is_in_the_table() -> None:
    assert {case.attack for case in corpus()} == set(table.CLASSES)


def test_a_wrong_answer_is_told_from_a_right_one() -> None:
    right = {"file": "f", "stage": "parse", "code": "RQ_E_KEY", "says": "again", "found": "RQ_E_KEY",
             "error": "", "typed": True, "name": "FileFormatError", "message": "key again"}  # fmt: skip
    assert hosts.wrong(right, "native") == ""
    for change in (
        {"found": None},
        {"found": "RQ_E_NAME"},
        {"typed": False},
        {"name": "Error"},
        {"message": ""},
    ):
        assert hosts.wrong({**right, **change}, "native")
    assert hosts.wrong({**right, "code": None}, "native")
