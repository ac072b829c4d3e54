"""The wire format of protocol buffers, read from a file by position: which fields there are, and where.

What a field holds stays in the file until it is asked for, so that gigabytes of weights cost nothing. Every
length is checked against what encloses it, and a file has MAX_FIELDS fields at most, whatever its size.
Facts: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..errors import FileFormatError
from .files import PieceFile

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types; 3 and 4 (groups) are out of use
MAX_FIELDS = 4_000_000  # a decoder of 100 layers has about 200,000
MAX_TEXT = 4096  # bytes of a name
MAX_TEXTS = 256 << 20  # of all names, and whatever else is asked for
_WINDOW = 1 << 16


class Field(NamedTuple):
    """One field: its number and wire type; `value` is the number, of BYTES the place of the first."""

    number: int
    wire: int
    value: int
    nbytes: int  # of BYTES


class WireReader:
    """Reads messages of one file; FileFormatError for what is none."""

    def __init__(self, file: PieceFile) -> None:
        self.file = file
        self._left, self._text_left = MAX_FIELDS, MAX_TEXTS
        self._window, self._start = bytearray(), 0

    def fields(self, begin: int, end: int) -> Iterator[Field]:
        """The fields of the message in the bytes [begin, end)."""
        at = begin
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise self.error("too many fields", f"at most {MAX_FIELDS}", "more", at)
            tag, at = self._varint(at, end)
            number, wire = tag >> 3, tag & 7
            if not 0 < number < 1 << 29:
                raise self.error("a field's number is unusable", "1 to 2^29 - 1", str(number), at)
            nbytes = 0
            if wire == VARINT:
                value, at = self._varint(at, end)
            elif wire == BYTES:
                nbytes, value = self._varint(at, end)
                if nbytes > end - value:
                    raise self.error(
                        "a field is longer than what holds it", f"{end - value}", f"{nbytes}", at
                    )
                at = value + nbytes
            elif wire in (FIXED64, FIXED32):
                size = 8 if wire == FIXED64 else 4
                if size > end - at:
                    raise self.error("the message ends inside a number", f"{size} bytes", f"{end - at}", at)
                value, at = int.from_bytes(self._piece(at, size), "little"), at + size
            else:
                raise self.error("a field has an unknown wire type", "0, 1, 2 or 5", str(wire), at)
            yield Field(number, wire, value, nbytes)

    def message(self, field: Field) -> tuple[int, int]:
        """Where the message in a field begins and ends."""
        if field.wire != BYTES:
            raise self.error("a field has another type", "a message", f"wire type {field.wire}", field.value)
        return field.value, field.value + field.nbytes

    def pair(self, field: Field) -> tuple[str, Field | None]:
        """Key and value, fields 1 and 2, of an entry of a map of texts."""
        key, value = "", None
        for inner in self.fields(*self.message(field)):
            if inner.number == 1:
                key = self.text(inner)
            elif inner.number == 2:
                value = inner
        return key, value

    def bytes_of(self, field: Field, most: int = MAX_TEXT) -> bytes:
        """What a field of BYTES holds, at most `most` bytes."""
        if field.wire != BYTES:
            raise self.error("a field has another type", "bytes", f"wire type {field.wire}", field.value)
        if field.nbytes > most:
            raise self.error("a text is too long", f"at most {most} bytes", f"{field.nbytes}", field.value)
        self._text_left -= field.nbytes
        if self._text_left < 0:
            raise self.error("too much text", f"at most {MAX_TEXTS} bytes", "more", field.value)
        return bytes(self._piece(field.value, field.nbytes))

    def text(self, field: Field, most: int = MAX_TEXT) -> str:
        """A field of BYTES as UTF-8."""
        raw = self.bytes_of(field, most)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.error("a text is not UTF-8", "UTF-8", str(error)[:80], field.value) from error

    def number(self, field: Field) -> int:
        """A field of VARINT as a signed number of 64 bits."""
        if field.wire != VARINT:
            raise self.error("a field has another type", "a whole number", f"wire type {field.wire}", 0)
        return field.value - (1 << 64) if field.value >> 63 else field.value

    def numbers(self, field: Field, most: int) -> list[int]:
        """A repeated whole number, packed or not; FileFormatError beyond `most` of them."""
        if field.wire == VARINT:
            return [self.number(field)]
        out: list[int] = []
        at, end = field.value, field.value + len(self.bytes_of(field, 10 * most))
        while at < end and len(out) <= most:
            value, at = self._varint(at, end)
            out.append(value - (1 << 64) if value >> 63 else value)
        return out

    def error(self, message: str, expected: str, actual: str, at: int) -> FileFormatError:
        """What is wrong with the file, at this byte."""
        return FileFormatError(
            message,
            subject=f"{self.file.path}: byte {at}",
            expected=expected,
            actual=actual,
            hint="the file is damaged or no ONNX model; download or export it again",
        )

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        """The number at `at`, and the place behind it."""
        value = 0
        for shift in range(0, 70, 7):
            if at >= end:
                raise self.error("the message ends inside a number", "another byte", "the end", at)
            if not self._start <= at < self._start + len(self._window):
                self._start, self._window = at, self.file.read(at, min(_WINDOW, self.file.size - at))
            byte = self._window[at - self._start]
            value |= (byte & 0x7F) << shift
            at += 1
            if byte < 0x80:
                if value >> 64:
                    break
                return value, at
        raise self.error("a number has more than 64 bits", "at most 10 bytes", "more", at)

    def _piece(self, at: int, nbytes: int) -> bytearray:
        begin = at - self._start
        if begin >= 0 and begin + nbytes <= len(self._window):
            return self._window[begin : begin + nbytes]
        return self.file.read(at, nbytes)
