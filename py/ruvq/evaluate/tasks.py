"""Questions with checkable answers: word problems, programs, calls of tools, and finding a word far back.

A task gives prompts and judges what a model wrote, greedily and the same on every host. Nothing is
downloaded: the files are those that the benchmarks' authors publish (docs/data.md).
"""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import StorageError, UsageError

if TYPE_CHECKING:
    from ..runtime.model import Model

PROGRAM_SECONDS = 5
PROGRAM_BYTES = 1 << 30  # of address space
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_SOLVED = "Question: There are 3 boxes of 4 pens. How many pens are there?\nAnswer: 3 * 4 = 12.\n#### 12\n\n"


@dataclass(frozen=True)
class Question:
    """What is asked, and what judges the answer."""

    prompt: str
    expected: Any


class Task(ABC):
    """`limit`: points of accuracy that may be lost."""

    name: str
    limit: float
    max_tokens = 256
    stop: tuple[str, ...] = ()

    @abstractmethod
    def questions(self, model: Model, count: int) -> list[Question]:
        """At most `count`, for a model's context."""

    @abstractmethod
    def right(self, answer: str, question: Question) -> bool:
        """Whether a continuation answers the question."""


def _records(path: str | Path) -> list[dict[str, Any]]:
    try:
        raw = Path(path).read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode()
        found = [json.loads(line) for line in text.splitlines() if line.strip()]
    except OSError as error:
        raise StorageError("the questions can't be read", subject=str(path), actual=str(error)) from error
    except (ValueError, EOFError) as error:
        raise UsageError(
            "the questions aren't JSON lines", subject=str(path), actual=str(error)[:80]
        ) from error
    return found


def _fields(path: str | Path, *names: str) -> list[dict[str, Any]]:
    records = _records(path)
    for at, record in enumerate(records, 1):
        if not isinstance(record, dict) or any(name not in record for name in names):
            raise UsageError(
                "a question lacks a field", subject=f"{path}, line {at}", expected=", ".join(names),
                actual=", ".join(record) if isinstance(record, dict) else type(record).__name__,
            )  # fmt: skip
    return records


class WordProblems(Task):
    """GSM8K: the number after ####, or the last one, is the answer."""

    name, limit, stop = "gsm8k", 15.0, ("\nQuestion:",)

    def __init__(self, path: str | Path) -> None:
        self._records = _fields(path, "question", "answer")

    def questions(self, model: Model, count: int) -> list[Question]:
        return [
            Question(f"{_SOLVED}Question: {r['question']}\nAnswer:", _last_number(r["answer"]))
            for r in self._records[:count]
        ]

    def right(self, answer: str, question: Question) -> bool:
        return question.expected is not None and _last_number(answer) == question.expected


def _last_number(text: str) -> float | None:
    found = _NUMBER.findall(text.rpartition("####")[2])
    return float(found[-1].replace(",", "")) if found else None


class Programs(Task):
    """HumanEval: the function is completed and run on the tests, in a process of its own with limits."""

    name, limit = "humaneval", 10.0
    stop = ("\ndef ", "\nclass ", "\nif __name__", "\nprint(")

    def __init__(self, path: str | Path) -> None:
        self._records = _fields(path, "prompt", "test", "entry_point")

    def questions(self, model: Model, count: int) -> list[Question]:
        return [
            Question(r["prompt"], f"{r['test']}\ncheck({r['entry_point']})\n") for r in self._records[:count]
        ]

    def right(self, answer: str, question: Question) -> bool:
        return runs(f"{question.prompt}{answer}\n{question.expected}")


def runs(program: str) -> bool:
    """Whether a program ends without an error: bounded in time, memory and the size of what it writes, in an
    empty folder, without this process's environment. It isn't a sandbox against an attacker."""
    limits = (
        "import resource as r, sys\n"
        f"r.setrlimit(r.RLIMIT_AS, ({PROGRAM_BYTES}, {PROGRAM_BYTES}))\n"
        f"r.setrlimit(r.RLIMIT_CPU, ({PROGRAM_SECONDS}, {PROGRAM_SECONDS}))\n"
        "r.setrlimit(r.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "exec(compile(sys.stdin.read(), 'answer', 'exec'), {'__name__': 'answer'})\n"
        "sys.stderr.write('ended')\n"
    )
    with tempfile.TemporaryDirectory(prefix="ruvq-program-") as folder:
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-c", limits], input=program.encode(), cwd=folder, env={},
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=2 * PROGRAM_SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return False
    return done.returncode == 0 and done.stderr.endswith(b"ended")  # an exit before the tests doesn't count


class ToolCalls(Task):
    """BFCL's simple calls: name and arguments as one of the possible answers has them."""

    name, limit, stop = "tool use", 5.0, ("\n",)

    def __init__(self, path: str | Path, answers: str | Path | None = None) -> None:
        path = Path(path)
        self._records = _fields(path, "id", "question", "function")
        known = _fields(answers or path.parent / "possible_answer" / path.name, "id", "ground_truth")
        self._answers = {r["id"]: r["ground_truth"] for r in known}

    def questions(self, model: Model, count: int) -> list[Question]:
        out = []
        for record in self._records[:count]:
            said = record["question"][0][-1]["content"]
            prompt = (
                f"Functions: {json.dumps(record['function'])}\n"
                'Answer with one line of JSON: {"name": ..., "arguments": {...}}\n'
                f"User: {said}\nCall:"
            )
            out.append(Question(prompt, self._answers.get(record["id"], [])))
        return out

    def right(self, answer: str, question: Question) -> bool:
        try:
            call = json.loads(answer.strip())
        except ValueError:
            return False
        if not isinstance(call, dict) or not isinstance(call.get("arguments"), dict):
            return False
        return any(_is_call(call, expected) for expected in question.expected)


def _is_call(call: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Every argument has a possible value; one that may be left out has "" among them."""
    (name, possible), *_ = expected.items()
    given = call["arguments"]
    if call.get("name") != name or set(given) - set(possible):
        return False
    return all(given[k] in v if k in given else "" in v for k, v in possible.items())


class LongContext(Task):
    """A number said at the beginning, and asked for after as much other text as half the context."""

    name, limit, max_tokens = "long context", 5.0, 12
    SHARE = 0.5
    LEAST = 1024  # tokens of context that a model must have for this to mean anything

    def __init__(self, filler: str) -> None:
        self._filler = filler

    def questions(self, model: Model, count: int) -> list[Question]:
        if model.info.context_tokens < self.LEAST:
            return []
        ids = model.tokenizer.encode(self._filler)
        size = int(self.SHARE * model.info.context_tokens)
        out = []
        for at in range(min(count, len(ids) // size)):
            number = 10_000 + (at * 7919) % 90_000
            middle = model.tokenizer.decode(ids[at * size : (at + 1) * size])
            text = f"The pass key is {number}. Remember it: {number}.\n{middle}\n"
            out.append(Question(f"{text}What is the pass key? The pass key is", number))
        return out

    def right(self, answer: str, question: Question) -> bool:
        return str(question.expected) in answer


@dataclass(frozen=True)
class Score:
    """How many of the questions that fit into the context were answered."""

    right: int
    asked: int

    @property
    def percent(self) -> float:
        """Points of accuracy."""
        return 100 * self.right / self.asked


def score(model: Model, task: Task, questions: Sequence[Question]) -> Score:
    """Asks one question after the other."""
    right = 0
    for question in questions:
        answer = "".join(model.generate(question.prompt, task.max_tokens, temperature=0.0, stop=task.stop))
        right += task.right(answer, question)
    return Score(right, len(questions))


def fitting(model: Model, task: Task, count: int) -> list[Question]:
    """The first questions that leave room for an answer."""
    room = model.info.context_tokens - task.max_tokens
    every = task.questions(model, count)
    return [q for q in every if len(model.tokenizer.encode(q.prompt)) < room]
