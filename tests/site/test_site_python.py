"""The Python view: its examples run, errors are shown, and a program can be stopped whatever it does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from site_page import PYTHON_MS, await_text

from browser import ROOT

EXAMPLES = json.loads((ROOT / "web" / "site" / "examples" / "index.json").read_text())


@pytest.fixture(scope="module")
def cell(lasting: Any) -> Any:
    """The page at its view."""
    lasting.evaluate("location.hash = '#python'")
    lasting.wait_for_function("document.getElementById('cell').value !== ''")
    return lasting


def run(page: Any, program: str | None = None, ends: str = "Done") -> str:
    if program is not None:
        page.fill("#cell", program)
    page.focus("#cell")
    page.keyboard.press("Control+Enter")
    await_text(page, "#cell-status", ends, PYTHON_MS)
    return page.evaluate("document.getElementById('cell-output').textContent")


@pytest.mark.parametrize("title", [example["title"] for example in EXAMPLES])
def test_every_example_runs(cell: Any, title: str) -> None:
    cell.select_option("#example", label=title)
    output = run(cell)
    assert len(output.splitlines()) > 2
    assert "Traceback" not in output


def test_the_value_of_the_last_line_is_shown(cell: Any) -> None:
    assert run(cell, "import ruvq\nprint('first')\nruvq.__version__") == f"first\n{ruvq_version()!r}\n"


def ruvq_version() -> str:
    import ruvq

    return ruvq.__version__


def test_an_error_is_shown_from_the_programs_lines_on(cell: Any) -> None:
    output = run(cell, "def f():\n    return 1 / 0\n\nf()", "Ended with an error")
    assert "ZeroDivisionError" in output
    assert 'File "<program>", line 4' in output
    assert "_pyodide" not in output


@pytest.mark.parametrize(
    "program",
    ["print('begun')\nwhile True:\n    pass", "import asyncio\nprint('begun')\nawait asyncio.sleep(1000)"],
    ids=["computing", "waiting"],
)
def test_a_program_is_stopped_and_the_next_one_runs(cell: Any, program: str) -> None:
    cell.fill("#cell", program)
    cell.click("#cell-run")
    await_text(cell, "#cell-output", "begun", PYTHON_MS)
    cell.click("#cell-stop")
    await_text(cell, "#cell-status", "Stopped")
    assert run(cell, "6 * 7") == "42\n"


def test_micropip_comes_for_a_program_that_imports_it(cell: Any) -> None:
    program = 'import micropip\nawait micropip.install("ruvq")\nimport ruvq\nruvq.__version__'
    assert run(cell, program) == f"{ruvq_version()!r}\n"


def test_tab_indents_and_escape_lets_go(cell: Any) -> None:
    cell.fill("#cell", "")
    cell.focus("#cell")
    cell.keyboard.press("Tab")
    assert cell.input_value("#cell") == "    "
    cell.keyboard.press("Escape")
    cell.keyboard.press("Tab")
    assert cell.evaluate("document.activeElement.id") == "cell-run"
