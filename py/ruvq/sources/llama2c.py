"""llama2.c checkpoints: legacy (version 0), version 1 (floats) and version 2 (int8 in groups).

Facts of the layouts: karpathy/llama2.c export.py. Rotary pairs are interleaved, as in GGUF's llama.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import FileFormatError, ModelError
from .base import Source, TensorInfo
from .files import PieceFile
from .llama import LlamaParameters

MAGIC = 0x616B3432  # "ak42"
HEADER_BYTES = 256  # of versions 1 and 2
_MATRICES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_down", "ffn_up")


class Checkpoint:
    """The header, and where each tensor's data lies: name -> (offset, scale offset or None)."""

    def __init__(self, file: PieceFile) -> None:
        self.file = file
        self.group = 0
        head = bytes(file.read(0, min(file.size, HEADER_BYTES)))
        if len(head) < 28:
            raise self._error("at least 28 bytes", f"{len(head)} bytes")
        magic, version = struct.unpack_from("<Ii", head)
        if magic == MAGIC:
            self.version = version
            if version not in (1, 2):
                raise self._error("llama2.c version 0, 1 or 2", f"version {version}")
            if len(head) < HEADER_BYTES:
                raise self._error(f"a header of {HEADER_BYTES} bytes", f"{len(head)} bytes")
            values = struct.unpack_from("<7i", head, 8)
            tied = bool(head[36])
            if version == 2:
                self.group = struct.unpack_from("<i", head, 37)[0]
        else:
            self.version = 0
            values = struct.unpack_from("<7i", head)
            tied = values[5] > 0
        self.parameters = self._parameters(values, tied)
        self.places = self._places()

    def _error(self, expected: str, actual: str) -> FileFormatError:
        return FileFormatError(
            "not a usable llama2.c checkpoint",
            subject=str(self.file.path),
            expected=expected,
            actual=actual,
            hint="name a .bin of llama2.c, a .safetensors, a .gguf or a Hugging Face folder",
        )

    def _parameters(self, values: tuple[int, ...], tied: bool) -> LlamaParameters:
        dim, hidden, layers, heads, kv_heads, vocab, context = values
        try:
            if heads < 1 or dim % heads:
                raise ModelError("", expected="a width that the heads divide", actual=f"{dim} by {heads}")
            return LlamaParameters(
                vocab_size=abs(vocab),
                width=dim,
                layers=layers,
                heads=heads,
                kv_heads=kv_heads,
                head_width=dim // heads,
                ff_width=hidden,
                context=context,
                tied=tied,
            )
        except ModelError as error:
            raise self._error(f"{error.subject} {error.expected}".strip(), error.actual) from error

    def _places(self) -> dict[str, tuple[int, int | None]]:
        parameters = self.parameters
        shapes = parameters.shapes()
        layers = range(parameters.layers)

        def each(name: str) -> list[str]:
            return [f"blk.{layer}.{name}.weight" for layer in layers]

        norms = [*each("attn_norm"), *each("ffn_norm"), "output_norm.weight"]
        matrices = ["token_embd.weight", *(n for m in _MATRICES for n in each(m))]
        output = [] if parameters.tied else ["output.weight"]
        places: dict[str, tuple[int, int | None]] = {}
        if self.version == 0:
            position = 28
            order = ["token_embd.weight", *each("attn_norm"), *(n for m in _MATRICES[:4] for n in each(m))]
            order += [
                *each("ffn_norm"),
                *(n for m in _MATRICES[4:] for n in each(m)),
                "output_norm.weight",
                "",
                *output,
            ]
        else:
            position = HEADER_BYTES
            order = [*norms, *matrices, *output]
        for name in order:
            if not name:  # version 0 stores cosines and sines for every position; ruvq computes its own
                position += parameters.context * (parameters.head_width // 2) * 2 * 4
                continue
            weights = _product(shapes[name])
            if self.version == 2 and len(shapes[name]) == 2:
                if self.group < 1 or weights % self.group:
                    raise self._error(f"a group size that divides {name}", str(self.group))
                places[name] = (position, position + weights)
                position += weights + weights // self.group * 4
            else:
                places[name] = (position, None)
                position += weights * 4
        if position != self.file.size:
            raise self._error(f"{position} bytes for these dimensions", f"{self.file.size} bytes")
        return places

    def reader(self, name: str, width: int) -> Callable[[int, int], Any]:
        """A function that reads rows of one tensor as float32."""
        offset, scales = self.places[name]

        def read_floats(first: int, last: int) -> bytearray:
            return self.file.read(offset + first * width * 4, (last - first) * width * 4)

        def read_groups(first: int, last: int) -> array[float]:
            assert scales is not None
            begin, end = first * width // self.group, -(-last * width // self.group)  # groups may span rows
            codes = self.file.read(offset + begin * self.group, (end - begin) * self.group)
            steps = memoryview(self.file.read(scales + begin * 4, (end - begin) * 4)).cast("f")
            skip = first * width - begin * self.group
            wanted = memoryview(codes).cast("b")[skip : skip + (last - first) * width]
            return array("f", [q * steps[(skip + i) // self.group] for i, q in enumerate(wanted)])

        return read_floats if scales is None else read_groups


def _product(shape: tuple[int, ...]) -> int:
    out = 1
    for n in shape:
        out *= n
    return out


def looks_like(file: PieceFile) -> bool:
    """Whether the file has llama2.c's magic, or a legacy header whose sizes add up."""
    if file.size < 28:
        return False
    if int.from_bytes(file.read(0, 4), "little") == MAGIC:
        return True
    try:
        Checkpoint(file)
    except FileFormatError:
        return False
    return True


def open_llama2c(path: Path, tokenizer: Any) -> Source:
    """A llama2.c checkpoint; `tokenizer` is a TokenizerSpec or None."""
    file = PieceFile(path)
    try:
        checkpoint = Checkpoint(file)
    except BaseException:
        file.close()
        raise
    tensors = {}
    for name, shape in checkpoint.parameters.shapes().items():
        dtype = f"q8 (groups of {checkpoint.group})" if checkpoint.places[name][1] is not None else "f32"
        tensors[name] = TensorInfo(name, shape, dtype, checkpoint.reader(name, shape[-1]))
    return Source(
        path=path,
        kind=f"llama2.c version {checkpoint.version}",
        name=path.stem,
        parameters=checkpoint.parameters,
        tensors=tensors,
        tokenizer=tokenizer,
        close=file.close,
    )
