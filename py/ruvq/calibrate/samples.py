"""The calibration set: texts of several domains, out of plain files and JSONL, always chosen the same way."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import StorageError, UsageError
from ..runtime.windows import MARK

DOMAINS = ("math", "code", "language", "reasoning", "tool-use")
DEFAULT_DOMAIN = "language"
# samples of each domain where only a total is given, in the proportions of the project's configuration
PROPORTIONS = {"math": 2048, "code": 1024, "language": 4096, "reasoning": 2048, "tool-use": 1024}
# what a JSONL record's text is made of: the first of these combinations whose fields are all there
FIELDS = (
    ("text",),
    ("question", "answer"),
    ("prompt", "canonical_solution"),
    ("prompt", "completion"),
    ("prompt", "response"),
    ("instruction", "output"),
    ("content",),
    ("question",),
    ("prompt",),
)


@dataclass(frozen=True)
class Sample:
    """One text and the domain it stands for."""

    domain: str
    text: str


def parse_source(argument: str) -> tuple[str | None, Path]:
    """ "math=gsm8k.jsonl" → ("math", path); a plain path leaves the domain to the file."""
    domain, equals, path = argument.partition("=")
    if equals and domain.replace("_", "-") in DOMAINS:
        return domain.replace("_", "-"), Path(path)
    return None, Path(argument)


def read_samples(arguments: Iterable[str]) -> list[Sample]:
    """All samples of the files named: UTF-8 text in pieces separated by <|endoftext|>, or .jsonl.

    StorageError for files that can't be read, UsageError for records without text and unknown domains.
    """
    out: list[Sample] = []
    for argument in arguments:
        domain, path = parse_source(argument)
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise StorageError(
                "the calibration text can't be read",
                subject=str(path),
                actual=error.strerror or str(error),
                hint="check the path",
            ) from error
        text = raw.decode("utf-8", "replace")
        if path.suffix in (".jsonl", ".ndjson"):
            out += _records(text, domain, path)
        else:
            pieces = (piece.strip() for piece in text.split(MARK))
            out += [Sample(domain or DEFAULT_DOMAIN, piece) for piece in pieces if piece]
    if not out:
        raise UsageError("there is no text to calibrate on", subject="text", expected="at least one sample")
    return out


def _records(text: str, domain: str | None, path: Path) -> Iterator[Sample]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        where = f"{path.name}, line {number}"
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise UsageError(
                "a record isn't JSON", subject=where, expected="one JSON object a line", actual=str(error)
            ) from error
        found = domain or (record.get("domain") if isinstance(record, dict) else None) or DEFAULT_DOMAIN
        if found not in DOMAINS:
            raise UsageError(
                "unknown domain", subject=where, expected=", ".join(DOMAINS), actual=str(found)[:40]
            )
        yield Sample(found, _text_of(record, where))


def _text_of(record: Any, where: str) -> str:
    if isinstance(record, dict):
        messages = record.get("messages")
        if isinstance(messages, list) and all(isinstance(m, dict) for m in messages):
            return "\n".join(str(m.get("content", "")) for m in messages)
        for fields in FIELDS:
            values = [record.get(field) for field in fields]
            if all(isinstance(value, str) for value in values):
                return "\n".join(str(value) for value in values)
    expected = "a JSON object with " + " or ".join("+".join(fields) for fields in FIELDS[:5])
    found = (
        f"an object with {', '.join(list(record)[:6])}" if isinstance(record, dict) else type(record).__name__
    )
    raise UsageError("a record has no text", subject=where, expected=expected, actual=found)


def choose(
    samples: Sequence[Sample],
    counts: Mapping[str, int] | None,
    total: int | None,
    domains: Sequence[str] | None,
    seed: int,
) -> list[Sample]:
    """The samples to use: of each domain the `counts`, or its share of `total`, or all; only of `domains`.

    The order is decided by a hash of `seed` and the text, so neither files' order nor the machine matters.
    UsageError for a domain without samples and for fewer samples than were asked for.
    """
    wanted = tuple(domains or sorted({s.domain for s in samples}, key=DOMAINS.index))
    out: list[Sample] = []
    for domain in wanted:
        if domain not in DOMAINS:
            raise UsageError("unknown domain", subject=domain, expected=", ".join(DOMAINS), actual=domain)
        found = sorted((s for s in samples if s.domain == domain), key=lambda s: _rank(seed, s.text))
        count = _count(domain, wanted, counts, total, len(found))
        if len(found) < max(count, 1):
            raise UsageError(
                "too few samples of a domain",
                subject=domain,
                expected=f"{max(count, 1)}",
                actual=str(len(found)),
                hint=f"give a file for it ({domain}=FILE), ask for fewer, or leave it out of --domains",
            )
        out += found[:count]
    return out


def _count(
    domain: str, wanted: Sequence[str], counts: Mapping[str, int] | None, total: int | None, there: int
) -> int:
    if counts and domain in counts:
        return counts[domain]
    if total is None:
        return there
    return max(1, round(total * PROPORTIONS[domain] / sum(PROPORTIONS[d] for d in wanted)))


def _rank(seed: int, text: str) -> bytes:
    return hashlib.sha256(seed.to_bytes(8, "little") + text.encode("utf-8", "replace")).digest()
