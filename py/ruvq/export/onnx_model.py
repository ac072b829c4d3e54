"""A model's floats, or 4 bits of them, as an ONNX decoder: weights streamed, file checked, then named.

Up to EMBED_MOST bytes the weights stand in the file itself, beyond that in FILE.data beside it. Both are
written into a temporary folder and renamed when `onnx.checker` has passed them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ..errors import FileFormatError, MissingDependencyError, StorageError, UsageError
from ..quantize.checks import check_target
from ..quantize.chunks import CHUNK_WEIGHTS
from ..sources import Source, open_source
from ..sources.onnx_source import FACTORS, PARAMETERS_KEY, TOKENIZER_KEY
from ..sources.rotary import from_gguf_order
from ..version import __version__

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from .builder import Builder, Weight

FORMATS = {"f32": "float32 weights", "matmulnbits": "4 bits in blocks of 32, com.microsoft's MatMulNBits"}
EMBED_MOST = 64 << 20
_ALIGNMENT = 4096  # of external data, so that it can be mapped
_IR_VERSION = 9
_HEADER_RESERVE = 16 << 20  # bytes beside weights and vocabulary that the space check allows for


@dataclass(frozen=True)
class ExportReport:
    """What was written."""

    output: Path
    format: str
    data: Path | None  # external weights
    bytes: int  # of both files
    weights: int
    nodes: int
    cache: bool
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        data = None if self.data is None else str(self.data)
        return {
            **dataclasses.asdict(self),
            "output": str(self.output),
            "data": data,
            "seconds": round(self.seconds, 3),
        }

    def summary(self) -> str:
        """One line for people."""
        where = f" and {self.data.name}" if self.data else ""
        return (
            f"{self.output}{where}: {self.bytes:,} bytes, {self.format}, {self.nodes} nodes, "
            f"{self.weights:,} weights, {self.seconds:.1f} s"
        )


def export_onnx(
    input: str | os.PathLike[str],
    output: str | os.PathLike[str],
    format: str = "f32",
    *,
    cache: bool = False,
    accuracy_level: int = 0,
    external: bool | None = None,
    tokenizer: str | os.PathLike[str] | None = None,
    config: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ExportReport:
    """Writes a model as an ONNX decoder: input_ids (batch, sequence) → logits (batch, sequence, vocab_size).

    `input`: what `open_source` reads, quantized GGUF files too: their weights are decoded. `format`: of
    FORMATS. `cache`: past_key_values.N.key and .value are inputs (batch, kv_heads, past, head_width),
    present.N.key and .value outputs. `accuracy_level`: MatMulNBits' attribute; 4 lets the runtime round
    activations to 8 bits. `external`: weights in FILE.data, None: when they exceed EMBED_MOST. `progress` is
    called with bytes done and in all.

    Raises UsageError, StorageError, MissingDependencyError, and what `open_source` raises; nothing is left
    behind then.
    """
    started = time.perf_counter()
    if format not in FORMATS:
        raise UsageError(
            "unknown format", subject="format", expected=", ".join(FORMATS), actual=str(format)[:40]
        )
    target, data = Path(output), Path(f"{os.fspath(output)}.data")
    onnx = _onnx()
    for path in (target, data):
        check_target(path, Path(input), overwrite)
    from .decoder import decoder_graph

    with open_source(os.fspath(input), tokenizer, config, allow_requantize=True) as source:  # type: ignore[arg-type]
        graph = decoder_graph(
            source.parameters,
            int4=format == "matmulnbits",
            cache=cache,
            accuracy_level=accuracy_level,
            factors=FACTORS in source.tensors,
        )
        total = sum(w.nbytes for w in graph.weights.values())
        outside = total > EMBED_MOST if external is None else external
        _check_space(target.parent, total)
        folder = target.with_name(f".{target.name[:200]}.{secrets.token_hex(6)}.part")
        try:
            folder.mkdir()
            _write(onnx, source, graph, folder / target.name, outside, progress or (lambda done, total: None))
            _check(onnx, folder / target.name)
            _put_in_place(folder, target, data, outside)
        except OSError as error:
            raise _storage_error(error, target) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        files = [target, *([data] if outside else [])]
        return ExportReport(
            target,
            format,
            data if outside else None,
            sum(path.stat().st_size for path in files),
            source.weights,
            len(graph.nodes),
            cache,
            time.perf_counter() - started,
        )


def _onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise MissingDependencyError(
            "writing ONNX needs the package onnx",
            expected="onnx",
            actual="not installed",
            hint="pip install 'ruvq[onnx]'",
        ) from error
    return onnx


def _storage_error(error: OSError, target: Path) -> OSError:
    if isinstance(error, StorageError):
        return error
    wrapped = StorageError(
        "the model can't be written", subject=str(target), actual=error.strerror or str(error)
    )
    wrapped.errno = error.errno
    return wrapped


def _check_space(folder: Path, total: int) -> None:
    free = shutil.disk_usage(folder).free
    if total + _HEADER_RESERVE > free:
        error = StorageError(
            "not enough space on the disk",
            subject=str(folder),
            expected=f"{total + _HEADER_RESERVE:,} bytes free",
            actual=f"{free:,} bytes",
            hint="free some space, write elsewhere, or choose --format matmulnbits",
        )
        error.errno = errno.ENOSPC
        raise error


def _put_in_place(folder: Path, target: Path, data: Path, outside: bool) -> None:
    """A killed run may leave new weights without a model, never a model beside another's weights."""
    target.unlink(missing_ok=True)
    if outside:
        (folder / data.name).replace(data)
    else:
        data.unlink(missing_ok=True)
    (folder / target.name).replace(target)


def _check(onnx: Any, path: Path) -> None:
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise FileFormatError(
            "the graph that was built isn't valid",
            subject=str(path),
            expected="a model that onnx.checker passes",
            actual=str(error)[:300],
            hint="please report this model",
        ) from error


def _write(
    onnx: Any,
    source: Source,
    graph: Builder,
    path: Path,
    outside: bool,
    progress: Callable[[int, int], None],
) -> None:
    from .decoder import OPSET

    total, done = sum(w.nbytes for w in graph.weights.values()), 0
    steps: dict[str, list[bytes]] = {}  # of a matrix in 4 bits, until they are written behind its codes
    initializers = [onnx.numpy_helper.from_array(value, name) for name, value in graph.constants.items()]
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open(f"{path}.data", "xb")) if outside else None
        for weight in graph.weights.values():
            tensor = onnx.TensorProto(name=weight.name, data_type=weight.kind, dims=weight.shape)
            pieces = _pieces(source, weight, steps)
            if file is None:
                tensor.raw_data = b"".join(pieces)
                done += weight.nbytes
                progress(done, total)
            else:
                _place(onnx, tensor, file, path.name, weight.nbytes)
                for piece in pieces:
                    file.write(piece)
                    done += len(piece)
                    progress(done, total)
            initializers.append(tensor)
    helper = onnx.helper
    made = helper.make_graph(
        graph.nodes, source.name[:200] or "decoder", graph.inputs, graph.outputs, initializers
    )
    opsets = [
        helper.make_opsetid("", OPSET),
        *([helper.make_opsetid("com.microsoft", 1)] if graph.int4 else []),
    ]
    model = helper.make_model(
        made, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="ruvq", producer_version=__version__
    )
    helper.set_model_props(model, _properties(source))
    with open(path, "xb") as out:
        out.write(model.SerializeToString())


def _place(onnx: Any, tensor: onnx.TensorProto, file: BinaryIO, name: str, nbytes: int) -> None:
    """Says that the tensor's bytes follow in `file`."""
    file.write(bytes(-file.tell() % _ALIGNMENT))
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entries = {"location": f"{name}.data", "offset": str(file.tell()), "length": str(nbytes)}
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)


def _pieces(source: Source, weight: Weight, steps: dict[str, list[bytes]]) -> Iterator[bytes]:
    """The bytes of a weight, a chunk of rows at a time."""
    import numpy as np
    from onnx import helper

    from .int4 import encode

    if weight.part == "steps":
        yield from steps.pop(weight.source)
        return
    kind = helper.tensor_dtype_to_np_dtype(weight.kind)
    for values in _rows(source, weight.source):
        if weight.part == "codes":
            codes, found = encode(values)
            steps.setdefault(weight.source, []).append(found.tobytes())
            yield codes.tobytes()
        else:
            yield np.ascontiguousarray(values, kind).tobytes()


def _rows(source: Source, name: str) -> Iterator[NDArray[np.float32]]:
    """A tensor's rows in Hugging Face's order, (rows, width) float32 at a time."""
    import numpy as np

    tensor = source.tensors[name]
    read = from_gguf_order(tensor.read, name, tensor.width, source.parameters)
    step = max(1, CHUNK_WEIGHTS // tensor.width)
    for first in range(0, tensor.rows, step):
        last = min(tensor.rows, first + step)
        yield np.frombuffer(read(first, last), np.float32).reshape(last - first, tensor.width)


def _properties(source: Source) -> Mapping[str, str]:
    """Hyper-parameters and vocabulary, so that the file is a source by itself."""
    out = {PARAMETERS_KEY: json.dumps(dataclasses.asdict(source.parameters))}
    if source.tokenizer is not None:
        from ..gguf.values import typed

        keys = {key: typed(key, value) for key, value in source.tokenizer.metadata().items()}
        out[TOKENIZER_KEY] = json.dumps(
            {key: [v.type, v.value] for key, v in keys.items()}, ensure_ascii=False
        )
    return out
