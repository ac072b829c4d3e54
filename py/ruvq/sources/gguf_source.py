"""A GGUF file as the source of another: floats and Q8_0; anything more quantized only on request."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import core
from ..core import CONSTANTS
from ..errors import ModelError, UsageError
from ..formats.transform import Transform, stored_transform
from ..gguf.reader import GGUFFile
from ..gguf.reader import TensorInfo as StoredTensor
from .architectures import ARCHITECTURES
from .base import Source, TensorInfo
from .llama import LlamaParameters, RopeScaling, check_shapes

FLOATS = ("f32", "f16", "bf16", "q8_0")  # as good as floats for what follows
_KEPT = (
    "general.name",
    "general.author",
    "general.license",
    "general.description",
    "general.url",
    "general.source.",
)
_TOKENIZER = "tokenizer."


class CopiedTokenizer:
    """The vocabulary's keys of another GGUF file, as they stand there."""

    def __init__(self, metadata: dict[str, Any], vocab_size: int) -> None:
        self._metadata = metadata
        self.vocab_size = vocab_size
        self.notes: tuple[str, ...] = ()

    def metadata(self) -> dict[str, Any]:
        """GGUF keys and typed values."""
        return self._metadata


def _parameters(file: GGUFFile) -> LlamaParameters:
    metadata, prefix = file.metadata, f"{file.architecture}."

    def get(key: str, default: Any = None) -> Any:
        value = metadata.get(prefix + key, default)
        if value is None:
            raise ModelError(
                "a hyper-parameter is missing", subject=prefix + key, expected="a number", actual="none"
            )
        return value

    names = {t.name: t for t in file.tensors}
    if "token_embd.weight" not in names:
        raise ModelError(
            "the file holds no model",
            subject=file.subject,
            expected="token_embd.weight and the layers of a model",
            actual=f"{len(names)} tensors",
            hint="a vocabulary alone can't be quantized",
        )
    heads, width = get("attention.head_count"), get("embedding_length")
    kv_heads = get("attention.head_count_kv", heads)
    if not isinstance(heads, int) or not isinstance(width, int) or heads < 1:
        raise ModelError(
            "a hyper-parameter is unusable", subject=f"{prefix}attention.head_count", actual=repr(heads)[:40]
        )
    scaling = None
    kind = get("rope.scaling.type", "none")
    if "rope_freqs.weight" in names:
        scaling = RopeScaling("llama3", 1.0)  # the factors themselves are copied as a tensor
    elif kind == "linear":
        factor = get("rope.scaling.factor")
        if not isinstance(factor, (int, float)):
            raise ModelError(
                "a hyper-parameter is unusable",
                subject=f"{prefix}rope.scaling.factor",
                actual=repr(factor)[:40],
            )
        scaling = RopeScaling("linear", float(factor))
    elif kind != "none":
        raise ModelError(
            "this kind of rope scaling isn't supported",
            subject=f"{prefix}rope.scaling.type",
            expected="none or linear",
            actual=str(kind),
        )
    head_width = get("attention.key_length", width // heads)
    if get("rope.dimension_count", head_width) != head_width or "ruvq.rope.neox" in metadata:
        raise ModelError(
            "this kind of rope isn't converted",
            subject=f"{prefix}rope.dimension_count",
            expected=f"whole heads of {head_width}, in the architecture's own pairs",
            actual=f"{get('rope.dimension_count', head_width)}",
        )
    return LlamaParameters(
        vocab_size=names["token_embd.weight"].shape[0],
        width=width,
        layers=get("block_count"),
        heads=heads,
        kv_heads=kv_heads,
        head_width=head_width,
        ff_width=get("feed_forward_length"),
        context=get("context_length"),
        rms_epsilon=get("attention.layer_norm_rms_epsilon"),
        rope_base=get("rope.freq_base", 10000.0),
        rope_scaling=scaling,
        tied="output.weight" not in names,
        attention_bias="blk.0.attn_q.bias" in names,
        architecture=file.architecture,
    )


def _reader(file: GGUFFile, tensor: StoredTensor, transform: Transform | None) -> Callable[[int, int], bytes]:
    """Decodes rows through the core, and undoes the transform."""
    width, row_bytes = tensor.shape[-1], tensor.type.row_bytes(tensor.shape[-1])
    start = file.data_address + tensor.offset

    def rows(first: int, last: int) -> bytes:
        backend, count = core.get(), last - first
        with backend.alloc(count * width * 4) as target:
            place = target.address
            source, scalar = start + first * row_bytes, CONSTANTS["RQ_SCALAR"]
            backend.call("rq_decode", tensor.type.format, source, count, width, place, scalar)
            if transform is not None:
                transform.apply(place, count, width, inverse=True)
            return backend.read(place, target.nbytes)

    return rows


def _refuse_quantized(file: GGUFFile, allow_requantize: bool) -> None:
    for tensor in file.tensors:
        if not tensor.runnable:
            raise UsageError(
                "a tensor is in a format that ruvq can't decode",
                subject=tensor.name,
                expected=", ".join(FLOATS),
                actual=tensor.format,
                hint="start from a GGUF in f16, f32 or bf16",
            )
    quantized = [t for t in file.tensors if t.format not in FLOATS]
    if quantized and not allow_requantize:
        raise UsageError(
            f"{len(quantized)} of the tensors are quantized already",
            subject=file.subject,
            expected=f"tensors in {', '.join(FLOATS)}",
            actual=f"{quantized[0].name} in {quantized[0].format}",
            hint="start from the float model, or accept the double loss with --allow-requantize",
        )


def _transform(file: GGUFFile) -> tuple[set[str], Transform | None]:
    """The tensors stored under a transform, and which. ModelError for an unknown one."""
    metadata = file.metadata
    names = metadata.get("ruvq.hadamard.tensors", [])
    return (set(names), stored_transform(metadata)) if names else (set(), None)


def open_gguf(path: Path, tokenizer: str | Path | None, *, allow_requantize: bool = False) -> Source:
    """A model of a GGUF file; its vocabulary is copied unless `tokenizer` names another."""
    file = GGUFFile.open(path)
    try:
        if file.architecture not in ARCHITECTURES:
            raise ModelError(
                "the architecture isn't supported",
                subject=str(path),
                expected=", ".join(ARCHITECTURES),
                actual=file.architecture or "none",
                hint="ruvq converts models of the architectures listed",
            )
        parameters = _parameters(file)
        check_shapes(parameters, {t.name: t.shape for t in file.tensors})
        _refuse_quantized(file, allow_requantize)
        metadata = file.metadata
        transformed, transform = _transform(file)
        tensors = {}
        for name, shape in parameters.shapes().items():
            stored = file.tensor(name)
            reader = _reader(file, stored, transform if name in transformed else None)
            tensors[name] = TensorInfo(name, shape, stored.format, reader)
        keys = {key: metadata.typed(key) for key in metadata if key.startswith((_TOKENIZER, *_KEPT))}
        kept = {key: value for key, value in keys.items() if not key.startswith(_TOKENIZER)}
        vocabulary = {key: value for key, value in keys.items() if key.startswith(_TOKENIZER)}
        spec: Any = CopiedTokenizer(vocabulary, parameters.vocab_size) if vocabulary else None
        if tokenizer is not None:
            from .tokenizers import load_tokenizer

            spec = load_tokenizer(Path(tokenizer), parameters.vocab_size)
    except BaseException:
        file.close()
        raise
    return Source(
        path=path,
        kind="GGUF file",
        name=str(metadata.get("general.name", path.stem)),
        parameters=parameters,
        tensors=tensors,
        tokenizer=spec,
        metadata=kept,
        close=file.close,
    )
