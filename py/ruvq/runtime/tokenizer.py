"""Text to token ids and back, by the vocabulary inside a GGUF file. The work is done in the C core.

    tokenizer = Tokenizer.from_gguf("model.gguf")
    ids = tokenizer.encode("Once upon a time", add_special=True)
    text = tokenizer.decode(ids)

Needs neither NumPy nor cffi, and no tensors in the file.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .. import core
from ..core import CONSTANTS, structs
from ..errors import FileFormatError, RuvqError, StorageError, UsageError
from ..gguf import GGUFFile

__all__ = ["TextStream", "Tokenizer"]

_FIRST_READ = 1 << 20  # bytes of a file to begin with; doubled until the header is whole
_MAX_TOKEN_BYTES = 4096
_KINDS = {CONSTANTS["RQ_TOKENIZER_SPM"]: "spm", CONSTANTS["RQ_TOKENIZER_BPE"]: "bpe"}


class Tokenizer:
    """An opened vocabulary. Safe to share between threads.

    Attributes: `kind` ("spm" or "bpe"), `vocab_size`, the ids `bos`, `eos`, `eot`, `unknown`, `padding`
    (None where there is none) and the flags `add_bos`, `add_eos`, `add_space_prefix`.
    """

    def __init__(self, index: int, data: int, *, keep: Any = None) -> None:
        """From the addresses of a parsed GGUF index and of the file's bytes in the core's memory; `keep` is
        held on to for as long as the tokenizer lives, because it refers to those bytes.

        Raises TokenizerError for an inconsistent or unknown vocabulary.
        """
        self._core = core.get()
        self._keep = keep
        with self._core.alloc(8) as number:
            self._core.call("rq_tokenizer_measure", index, data, number.address)
            nbytes = int.from_bytes(self._core.read(number.address, 8), "little")
        self._memory = self._core.alloc(nbytes)
        self._core.call("rq_tokenizer_open", index, data, self._memory.address, self._memory.end)
        with self._core.alloc(structs.size("rq_tokenizer_info")) as memory:
            self._core.call("rq_tokenizer_describe", self._memory.address, memory.address)
            info = structs.unpack("rq_tokenizer_info", self._core.read(memory.address, memory.nbytes))
        self.kind: str = _KINDS[info["kind"]]
        self.vocab_size: int = info["vocab_size"]
        self.bos, self.eos, self.eot, self.unknown, self.padding = (
            None if info[name] < 0 else int(info[name])
            for name in ("bos", "eos", "eot", "unknown", "padding")
        )
        self.add_bos, self.add_eos, self.add_space_prefix = (
            bool(info[name]) for name in ("add_bos", "add_eos", "add_space_prefix")
        )
        self._pieces: dict[tuple[int, bool], bytes] = {}

    @classmethod
    def from_gguf(cls, source: Any) -> Tokenizer:
        """Opens the vocabulary of a GGUF file: a path, the file's bytes, or an open `ruvq.GGUFFile`.

        Of a path only the header is read, however large the file is. Raises StorageError,
        FileFormatError, TokenizerError.
        """
        if isinstance(source, GGUFFile):  # a copy of its header, so that the file may be closed
            address, size = source.metadata_extent
            return cls._from_beginning(lambda nbytes: core.get().read(address, nbytes), size)
        if isinstance(source, (bytes, bytearray, memoryview)):
            view = memoryview(source).cast("B")
            return cls._from_beginning(lambda nbytes: bytes(view[:nbytes]), view.nbytes)
        if isinstance(source, (str, os.PathLike)):
            return cls._from_path(os.fspath(source))
        raise UsageError(
            "can't open a tokenizer from this",
            expected="a path, bytes or a GGUFFile",
            actual=type(source).__name__,
        )

    @classmethod
    def _from_path(cls, path: str) -> Tokenizer:
        def beginning(nbytes: int) -> bytes:
            file.seek(0)
            return file.read(nbytes)

        try:
            with open(path, "rb") as file:
                return cls._from_beginning(beginning, file.seek(0, os.SEEK_END))
        except RuvqError as error:
            error.subject = f"{path}: {error.subject}" if error.subject else path
            raise
        except OSError as error:
            raise StorageError(
                "the file can't be read", subject=path, actual=error.strerror or str(error)
            ) from error

    @classmethod
    def _from_beginning(cls, beginning: Callable[[int], bytes], file_bytes: int) -> Tokenizer:
        """`beginning(n)` gives the first n bytes of a file; more are asked for until its header is whole."""
        wanted = _FIRST_READ
        while True:
            tokenizer = cls._if_whole(beginning(min(wanted, file_bytes)), file_bytes)
            if tokenizer is not None:
                return tokenizer
            if wanted >= file_bytes:
                raise StorageError(
                    "the file became shorter while it was read", expected=f"{file_bytes} bytes"
                )
            wanted *= 2

    @classmethod
    def from_header(cls, header: bytes, file_bytes: int) -> Tokenizer:
        """From at least the header of a GGUF file of `file_bytes`. Raises FileFormatError, TokenizerError."""
        tokenizer = cls._if_whole(header, file_bytes)
        if tokenizer is None:
            raise FileFormatError("the header is cut off", actual=f"{len(header)} bytes of it")
        return tokenizer

    @classmethod
    def _if_whole(cls, header: bytes, file_bytes: int) -> Tokenizer | None:
        """`header`: the first bytes of a file of `file_bytes`; None when its header is longer."""
        library = core.get()
        data = library.place(header)
        extent = (data.address, data.end, data.address + file_bytes)
        with library.alloc(8) as number:
            if library.call("rq_gguf_index_bytes", *extent, number.address) == CONSTANTS["RQ_MORE"]:
                return None
            index = library.alloc(int.from_bytes(library.read(number.address, 8), "little"))
        with index:
            if library.call("rq_gguf_parse", *extent, index.address, index.end) == CONSTANTS["RQ_MORE"]:
                return None
            return cls(index.address, data.address, keep=(data, header))

    # ---- text to ids ----

    def encode(self, text: str, add_special: bool = False, parse_special: bool = False) -> list[int]:
        """The ids of `text`.

        `add_special` adds BOS and EOS as the file says. Special tokens written out in the text are
        taken as text unless `parse_special` is set: never set it for text of unknown origin.
        A byte-level vocabulary that lacks a byte leaves that byte out. Raises UsageError above 16 MiB.
        """
        flags = CONSTANTS["RQ_TOKENIZE_SPECIAL"] if add_special else 0
        flags |= CONSTANTS["RQ_TOKENIZE_PARSE_SPECIAL"] if parse_special else 0
        try:
            raw = text.encode("utf-8")
        except UnicodeEncodeError:  # halves of surrogate pairs; U+FFFD for those without the other half
            raw = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode("utf-8")
        limit = self._core.raw("rq_tokenize_scratch", len(raw))
        if limit < 0:
            raise UsageError(
                "the text is too long for one call",
                expected="at most 16777216 bytes",
                actual=f"{len(raw)} bytes",
                hint="cut it at a line end and encode the pieces",
            )
        capacity = 4 * len(raw) + 5
        library = self._core
        with (
            library.alloc(limit) as scratch,
            library.alloc(4 * capacity) as ids,
            library.place(raw or b"\0") as place,
        ):
            count = library.call(
                "rq_tokenize",
                self._memory.address,
                place.address,
                len(raw),
                flags,
                ids.address,
                capacity,
                scratch.address,
                scratch.end,
            )
            return memoryview(library.read(ids.address, 4 * count)).cast("i").tolist()

    # ---- ids to text ----

    def token_bytes(self, token: int, special: bool = False) -> bytes:
        """The bytes of one token as it stands in running text: perhaps part of a character, and with the
        space that it may begin with. Special tokens are empty unless `special` is set."""
        key = (token, special)
        if key not in self._pieces:
            with self._core.alloc(_MAX_TOKEN_BYTES) as out:
                count = self._core.call(
                    "rq_detokenize", self._memory.address, token, int(special), out.address, out.nbytes
                )
                self._pieces[key] = self._core.read(out.address, count)
        return self._pieces[key]

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        """The text of `ids`; U+FFFD for what is no UTF-8.

        SentencePiece writes a space before the text when it encodes (`add_space_prefix`); one space at
        the beginning is taken off again here. Raises UsageError for an id outside the vocabulary.
        """
        text = b"".join(self.token_bytes(i, not skip_special) for i in ids).decode("utf-8", "replace")
        return text.removeprefix(" ") if self.add_space_prefix else text

    def stream(self, skip_special: bool = True, at_start: bool = False) -> TextStream:
        """Decodes a running stream of ids; `at_start` takes the leading space off as `decode` does."""
        return TextStream(self, skip_special, at_start and self.add_space_prefix)

    @property
    def end_ids(self) -> Sequence[int]:
        """The ids after which a text or a turn is over: `eos` and `eot`, where there are any."""
        return tuple(sorted({i for i in (self.eos, self.eot) if i is not None}))


class TextStream:
    """Turns ids into text one by one, holding back characters that aren't complete yet."""

    def __init__(self, tokenizer: Tokenizer, skip_special: bool, strip_space: bool) -> None:
        self._tokenizer = tokenizer
        self._special = not skip_special
        self._strip = strip_space
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """The text that `token` completes; empty in the middle of a character."""
        return self._cut(self._decoder.decode(self._tokenizer.token_bytes(token, self._special)))

    def flush(self) -> str:
        """What is left at the end: U+FFFD for a character that was never completed."""
        text = self._cut(self._decoder.decode(b"", final=True))
        self._decoder.reset()
        return text

    def _cut(self, text: str) -> str:
        if self._strip and text:
            self._strip = False
            return text.removeprefix(" ")
        return text
