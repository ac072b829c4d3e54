"""How a file was made, recorded in the file: command, versions, calibration set, seed, time (INV-5)."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import UsageError
from ..version import __version__

RECIPE_KEY = "ruvq.recipe"
_SCHEMA = 1


def timestamp_now() -> str:
    """ISO 8601 in UTC, to the second.

    SOURCE_DATE_EPOCH (seconds since 1970) stands in for the clock where it is set, so that the same
    inputs give the same bytes.
    """
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch is None:
        moment = datetime.datetime.now(datetime.UTC)
    else:
        try:
            moment = datetime.datetime.fromtimestamp(int(epoch), datetime.UTC)
        except (ValueError, OverflowError, OSError) as error:
            raise UsageError(
                "SOURCE_DATE_EPOCH is no usable time",
                subject="SOURCE_DATE_EPOCH",
                expected="whole seconds since 1970",
                actual=epoch,
            ) from error
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def calibration_digest(texts: list[str]) -> str:
    """SHA-256 of a calibration set: of each text's length (8 bytes, little-endian) and UTF-8, in order."""
    sha = hashlib.sha256()
    for text in texts:
        data = text.encode()
        sha.update(len(data).to_bytes(8, "little"))
        sha.update(data)
    return sha.hexdigest()


@dataclass(frozen=True)
class Recipe:
    """What is needed to make the same file again.

    `calibration` is the hexadecimal SHA-256 of the calibration set and `samples` the number of its texts;
    both stay empty for a file made without calibration. `options` takes whatever else decides the bytes.
    """

    command: str
    seed: int = 0
    calibration: str = ""
    samples: int = 0
    source: str = ""  # name and digest of the model it was made from
    timestamp: str = field(default_factory=timestamp_now)
    versions: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if bool(self.calibration) != (self.samples > 0):
            raise UsageError(
                "a calibration set needs both its digest and its number of samples",
                subject="recipe",
                expected="both or neither",
                actual=f"calibration={self.calibration!r}, samples={self.samples}",
            )
        if self.calibration and not (
            len(self.calibration) == 64 and set(self.calibration) <= set("0123456789abcdef")
        ):
            raise UsageError(
                "the digest of a calibration set is no SHA-256",
                subject="recipe",
                expected="64 lower-case hexadecimal digits",
                actual=self.calibration,
            )

    def to_json(self) -> str:
        """One line with sorted keys: the same recipe gives the same bytes."""
        fields = asdict(self)
        fields["versions"] = {"ruvq": __version__, **self.versions}
        return json.dumps(
            {"schema": _SCHEMA, **fields}, sort_keys=True, ensure_ascii=False, separators=(",", ":")
        )
