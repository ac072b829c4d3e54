"""What the gates have in common: go or no-go, the advice that goes with a no, notes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar


@dataclass
class Gate(ABC):
    """A gate's result. `NAME` and what to do on failure, `ROLLBACK`, are the class's."""

    NAME: ClassVar[str]
    ROLLBACK: ClassVar[str]
    notes: list[str] = field(default_factory=list, kw_only=True)

    @property
    @abstractmethod
    def go(self) -> bool:
        """Go or no-go."""

    @abstractmethod
    def table(self, markdown: bool = False) -> str:
        """All figures as text or Markdown."""

    @abstractmethod
    def findings(self) -> list[str]:
        """Each verdict in a line."""

    @abstractmethod
    def figures(self) -> dict[str, Any]:
        """What `--json` has beside the verdict."""

    @property
    def title(self) -> str:
        """What the last line begins with."""
        return self.NAME.upper()

    def statement(self) -> str:
        """The verdicts, the notes, and go or no-go."""
        end = f"{self.title}: " + ("go" if self.go else f"no-go; {self.ROLLBACK}")
        return "\n".join([*self.findings(), *(f"note: {text}" for text in self.notes), end])

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        advice = None if self.go else self.ROLLBACK
        return {"gate": self.NAME, "go": self.go, "advice": advice, **self.figures(), "notes": self.notes}
