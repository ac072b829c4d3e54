"""Every error that ruvq raises on purpose: what was expected, what was found, what to do."""

from __future__ import annotations


class RuvqError(Exception):
    """Base of all of ruvq's errors.

    Attributes: `subject` (the file, key, tensor or option it is about), `expected`, `actual`, `hint`
    (each a string, perhaps empty) and `code` (the C core's RQ_E_* name, empty for errors of Python).
    """

    def __init__(
        self,
        message: str,
        *,
        subject: str = "",
        expected: str = "",
        actual: str = "",
        hint: str = "",
        code: str = "",
    ) -> None:
        self.message = message
        self.subject = subject
        self.expected = expected
        self.actual = actual
        self.hint = hint
        self.code = code
        super().__init__(message)

    def __str__(self) -> str:
        text = f"{self.subject}: {self.message}" if self.subject else self.message
        details = [
            f"{label} {value}"
            for label, value in (("expected", self.expected), ("found", self.actual))
            if value
        ]
        if details:
            text += " (" + ", ".join(details) + ")"
        return f"{text}; {self.hint}" if self.hint else text

    def as_dict(self) -> dict[str, str]:
        """For `--json` output."""
        fields = ("message", "subject", "expected", "actual", "hint", "code")
        return {"error": type(self).__name__, **{f: getattr(self, f) for f in fields}}


class UsageError(RuvqError, ValueError):
    """An argument, option or flag can't be used so."""


class MemoryLimitError(RuvqError, MemoryError):
    """What was asked for doesn't fit into the memory there is."""


class FileFormatError(RuvqError, ValueError):
    """A file is damaged, hostile or of another kind."""


class VersionError(FileFormatError):
    """A file needs another version of ruvq."""


class DataError(RuvqError, ValueError):
    """Weights or activations hold NaN, infinity or a forbidden value."""


class IntegrityError(RuvqError):
    """A digest differs from the one recorded."""


class ModelError(RuvqError, ValueError):
    """A well-formed file holds a model that can't be run."""


class TokenizerError(RuvqError, ValueError):
    """A vocabulary is inconsistent, unknown or of another model."""


class TemplateError(RuvqError, ValueError):
    """A chat template is missing, can't be rendered within its limits, or refuses the conversation."""


class ContextFullError(RuvqError):
    """The tokens don't fit into the model's context."""


class SelfTestError(RuvqError):
    """A kernel gives wrong results on this machine."""


class StorageError(RuvqError, OSError):
    """A file can't be read, written or replaced: no space, no permission, not there."""


class QuotaError(StorageError):
    """There is no room to keep a file."""


class DownloadError(RuvqError, OSError):
    """A download failed, was cut or gave something else than a model."""


class MissingDependencyError(RuvqError, ImportError):
    """An optional package or program is needed for this."""


BY_CODE: dict[str, type[RuvqError]] = {
    "RQ_E_ARGUMENT": UsageError,
    "RQ_E_TOKEN": UsageError,
    "RQ_E_MEMORY": MemoryLimitError,
    "RQ_E_VERSION": VersionError,
    "RQ_E_LAYOUT": VersionError,
    "RQ_E_DATA": DataError,
    "RQ_E_NONFINITE": DataError,
    "RQ_E_INTEGRITY": IntegrityError,
    "RQ_E_HYPERPARAMETER": ModelError,
    "RQ_E_TENSOR": ModelError,
    "RQ_E_ARCHITECTURE": ModelError,
    "RQ_E_TOKENIZER": TokenizerError,
    "RQ_E_CONTEXT": ContextFullError,
    "RQ_E_SELF_TEST": SelfTestError,
}


def for_code(code: str) -> type[RuvqError]:
    """The exception class of a C error code; those of the container are FileFormatError."""
    return BY_CODE.get(code, FileFormatError)
