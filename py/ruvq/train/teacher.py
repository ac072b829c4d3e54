"""What is imitated: a frozen model, or its logits on disk."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ModelError, UsageError
from ..sources import open_source
from .models import load_model


class Teacher(Protocol):
    """`logits(tokens)`: (batch, length) int64 → (batch, length, vocabulary), without gradients."""

    def logits(self, tokens: Tensor) -> Tensor:
        """What the teacher expects after each token."""


class ModelTeacher:
    """A model that is only asked: in evaluation mode, no parameter takes a gradient, none ever changes."""

    def __init__(self, model: nn.Module, vocab_size: int) -> None:
        self.model = model.eval().requires_grad_(False)
        found = int(self.model.config.vocab_size)  # type: ignore[union-attr, arg-type]
        if found != vocab_size:
            raise ModelError(
                "the teacher has another vocabulary", subject="teacher", expected=f"{vocab_size} tokens",
                actual=f"{found}", hint="distil from a model with the same tokenizer",
            )  # fmt: skip

    @torch.no_grad()
    def logits(self, tokens: Tensor) -> Tensor:
        """(batch, length, vocabulary)."""
        return self.model(tokens, use_cache=False).logits

    def digest(self) -> str:
        """SHA-256 of all weights."""
        sha = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            sha.update(name.encode())
            sha.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
        return sha.hexdigest()


def open_teacher(
    path: str | Path, vocab_size: int, tokenizer: str | Path | None, device: str
) -> tuple[ModelTeacher, Any]:
    """A teacher of anything that `open_source` reads, a quantized GGUF file too; and its tokenizer's spec."""
    with open_source(path, tokenizer, allow_requantize=True) as source:
        return ModelTeacher(load_model(source).to(device), vocab_size), source.tokenizer


class CachedTeacher:
    """Logits kept in a file, as float16, by window of tokens; what isn't there yet is asked of `teacher`.

    The file has room for `capacity` windows of `length` tokens. A window's place is found by a hash of its
    tokens, so the cache is good for any order and any run with the same windows.
    """

    def __init__(
        self, path: str | Path, teacher: ModelTeacher | None, capacity: int, length: int, vocab_size: int
    ) -> None:
        self.teacher, self.path = teacher, Path(path)
        shape, keys = (capacity, length, vocab_size), self.path.with_suffix(".keys")
        expected = 2 * capacity * length * vocab_size
        if self.path.exists() and self.path.stat().st_size != expected:
            raise UsageError(
                "the cached logits are of another run", subject=str(path), expected=f"{expected:,} bytes",
                actual=f"{self.path.stat().st_size:,}", hint="remove the file, or name another",
            )  # fmt: skip
        mode: Any = "r+" if self.path.exists() else "w+"
        self._logits = np.memmap(self.path, np.float16, mode, shape=shape)
        self._keys_path = keys
        self._places: dict[str, int] = {}
        if keys.exists() and mode == "r+":
            names = keys.read_text().split()
            self._places = {name: i for i, name in enumerate(names)}

    def logits(self, tokens: Tensor) -> Tensor:
        """(batch, length, vocabulary) float32. UsageError for unknown windows where no teacher is there."""
        rows = tokens.cpu().numpy()
        names = [hashlib.sha256(row.tobytes()).hexdigest() for row in rows]
        missing = [i for i, name in enumerate(names) if name not in self._places]
        if missing:
            self._add(tokens, missing, names)
        places = [self._places[name] for name in names]
        return torch.from_numpy(self._logits[places].astype(np.float32)).to(tokens.device)

    def _add(self, tokens: Tensor, missing: list[int], names: list[str]) -> None:
        if self.teacher is None or len(self._places) + len(missing) > self._logits.shape[0]:
            raise UsageError(
                "these windows aren't among the cached logits", subject=str(self.path),
                expected="the text, window and seed that they were made with", actual="others",
            )  # fmt: skip
        fresh = self.teacher.logits(tokens[missing]).half().cpu().numpy()
        for row, i in zip(fresh, missing, strict=True):
            self._logits[len(self._places)] = row
            self._places[names[i]] = len(self._places)
        self._logits.flush()
        part = self._keys_path.with_suffix(".part")
        part.write_text("\n".join(self._places))
        os.replace(part, self._keys_path)
