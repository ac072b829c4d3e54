"""A decoder in ONNX as a source: configuration, tokenizer, and its weights by rows.

The configuration is a Hugging Face config.json beside the file (or --config); files of `ruvq export-onnx`
carry their hyper-parameters and vocabulary themselves, in metadata_props.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import FileFormatError, UsageError
from ..gguf.values import Typed
from .architectures import ARCHITECTURES
from .base import Source, TensorInfo
from .files import parse_json_object, read_json
from .gguf_source import CopiedTokenizer
from .huggingface import parameters_from_config
from .llama import LlamaParameters, RopeScaling, check_shapes, llama3_frequency_factors
from .onnx_file import OnnxFile
from .onnx_graph import Place, recognise
from .rotary import to_gguf_order

PARAMETERS_KEY, TOKENIZER_KEY = "ruvq.parameters", "ruvq.tokenizer"  # of metadata_props, both JSON
FACTORS = "rope_freqs.weight"


def open_onnx(path: Path, config: str | Path | None) -> tuple[Source, dict[str, Any] | None]:
    """The model without a tokenizer unless the file has one, and its config.json if that was read.

    FileFormatError for a damaged file, ModelError for one that holds another kind of model."""
    file = OnnxFile(path)
    try:
        parameters, settings = _parameters(file, config)
        places, notes = recognise(file, parameters)
        if parameters.tied:
            places.pop("output.weight", None)
        computed = llama3_frequency_factors(parameters) if settings and _scaled(parameters) else None
        tensors = _tensors(file, places, parameters, computed)
        tokenizer = _tokenizer(file, parameters)
    except BaseException:
        file.close()
        raise
    source = Source(
        path=path,
        kind="ONNX file",
        name=path.stem if path.stem != "model" else path.resolve().parent.name,
        parameters=parameters,
        tensors=tensors,
        tokenizer=tokenizer,
        notes=notes,
        files=file.files,
        close=file.close,
    )
    return source, settings


def _parameters(file: OnnxFile, config: str | Path | None) -> tuple[LlamaParameters, dict[str, Any] | None]:
    own = file.metadata(PARAMETERS_KEY) if config is None else None
    if own is not None:
        return _own_parameters(parse_json_object(own, f"{file.path}: {PARAMETERS_KEY}")), None
    path = Path(config) if config else file.path.parent / "config.json"
    if not path.is_file():
        raise UsageError(
            "an ONNX file needs the model's configuration",
            subject=str(file.path),
            expected="the model's config.json beside it, or --config FILE",
            actual="neither",
        )
    settings = read_json(path)
    return parameters_from_config(settings), settings


def _own_parameters(values: dict[str, Any]) -> LlamaParameters:
    """What `parameters_json` of the exporter wrote. FileFormatError, ModelError."""
    try:
        scaling = values.pop("rope_scaling", None)
        parameters = LlamaParameters(**values, rope_scaling=RopeScaling(**scaling) if scaling else None)
        if parameters.architecture not in ARCHITECTURES:
            raise KeyError(f"architecture {parameters.architecture!r:.40}")
        if parameters.rope_scaling and parameters.rope_scaling.kind not in ("linear", "llama3"):
            raise KeyError(f"rope scaling {parameters.rope_scaling.kind!r:.40}")
        return parameters
    except (TypeError, KeyError) as error:
        raise FileFormatError(
            "the hyper-parameters in the file are unusable",
            subject=PARAMETERS_KEY,
            expected="what `ruvq export-onnx` writes",
            actual=str(error)[:120],
            hint="it may need a newer ruvq; or give the model's config.json with --config",
        ) from error


def _scaled(parameters: LlamaParameters) -> bool:
    """Whether the rotary frequencies have a divisor each."""
    return FACTORS in parameters.shapes()


def _tensors(
    file: OnnxFile, places: dict[str, Place], parameters: LlamaParameters, computed: Any
) -> dict[str, TensorInfo]:
    """Every tensor that the parameters ask for; ModelError when the graph lacks one. `computed`: the divisors
    of the rotary frequencies where a config.json says how they are made."""
    shapes = {name: place.shape for name, place in places.items()}
    if computed is not None:
        shapes[FACTORS] = (len(computed),)
    check_shapes(
        parameters, shapes, {name: f"{place.tensor.name} ({name})" for name, place in places.items()}
    )
    tensors = {}
    for name, shape in parameters.shapes().items():
        if name == FACTORS and computed is not None:
            tensors[name] = TensorInfo(name, shape, "f32", lambda first, last: computed)
            continue
        place = places[name]
        reader = to_gguf_order(_rows(file, place), name, shape[-1], parameters)
        tensors[name] = TensorInfo(name, shape, place.tensor.dtype or "", reader)
    return tensors


def _rows(file: OnnxFile, place: Place) -> Callable[[int, int], Any]:
    """Rows of a place as float32."""
    tensor, begin = place.tensor, place.first
    if len(tensor.shape) == 1:
        width = place.shape[0]

        def part(first: int, last: int) -> Any:
            return file.rows(tensor, 0, 1)[begin : begin + width]

        return part
    read = file.columns if place.columns else file.rows
    return lambda first, last: read(tensor, begin + first, begin + last)


def _tokenizer(file: OnnxFile, parameters: LlamaParameters) -> CopiedTokenizer | None:
    """The vocabulary that an exported file carries: key -> [GGUF type, value]."""
    own = file.metadata(TOKENIZER_KEY)
    if own is None:
        return None
    keys = parse_json_object(own, f"{file.path}: {TOKENIZER_KEY}")
    for key, pair in keys.items():
        if (
            not key.startswith("tokenizer.")
            or not isinstance(pair, list)
            or list(map(type, pair))[:1] != [str]
            or len(pair) != 2
        ):
            raise FileFormatError(
                "the vocabulary in the file is unusable",
                subject=f"{TOKENIZER_KEY}: {key[:80]}",
                expected="a key of a tokenizer with its type and value",
                actual=repr(pair)[:80],
            )
    return CopiedTokenizer(
        {key: Typed(value, kind) for key, (kind, value) in keys.items()}, parameters.vocab_size
    )
