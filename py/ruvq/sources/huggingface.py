"""Hugging Face checkpoints: config.json, safetensors (one file or shards), tokenizer."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from ..errors import FileFormatError, ModelError, StorageError
from .architectures import BY_MODEL_TYPE, Architecture
from .base import Source, TensorInfo
from .files import read_json
from .llama import LlamaParameters, RopeScaling, check_shapes, llama3_frequency_factors
from .rotary import to_gguf_order
from .safetensors_file import SafetensorsFile

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_LAYER = {
    "input_layernorm.weight": "attn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "self_attn.q_proj.bias": "attn_q.bias",
    "self_attn.k_proj.bias": "attn_k.bias",
    "self_attn.v_proj.bias": "attn_v.bias",
    "self_attn.o_proj.bias": "attn_output.bias",
    "self_attn.q_norm.weight": "attn_q_norm.weight",
    "self_attn.k_norm.weight": "attn_k_norm.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
}
_OTHER = {
    "embed_tokens.weight": "token_embd.weight",
    "norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_MISSING: Any = object()


def _get(config: dict[str, Any], key: str, kind: type | tuple[type, ...], default: Any = _MISSING) -> Any:
    """A value of the configuration, of the right type; null counts as absent."""
    value = config.get(key)
    if value is None:
        if default is _MISSING:
            raise ModelError(
                "the configuration lacks a key", subject=key, expected="a value in config.json", actual="none"
            )
        return default
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ModelError(
            "a value of config.json has the wrong type",
            subject=key,
            expected=getattr(kind, "__name__", "a number"),
            actual=repr(value)[:60],
        )
    return value


def _number(config: dict[str, Any], key: str, default: Any = _MISSING) -> float:
    """A number of the configuration as a float."""
    value = _get(config, key, (int, float), default)
    try:
        return float(value)
    except OverflowError:
        raise ModelError(
            "a number is too large", subject=key, expected="a float", actual=f"{value!r:.40}"
        ) from None


def _refuse(what: str, expected: str, actual: str, hint: str = "") -> ModelError:
    return ModelError(
        f"ruvq can't convert this {what}",
        subject=what,
        expected=expected,
        actual=actual,
        hint=hint or "this variant of the architecture isn't supported",
    )


def _rope(config: dict[str, Any]) -> tuple[float, RopeScaling | None]:
    """Base and scaling, from `rope_theta` and `rope_scaling` or the newer `rope_parameters`."""
    newer = _get(config, "rope_parameters", dict, {})
    scaling = _get(config, "rope_scaling", dict, newer)
    base = _number(newer, "rope_theta", _number(config, "rope_theta", 10000.0))
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind == "default":
        return base, None
    if kind == "linear":
        return base, RopeScaling("linear", _number(scaling, "factor"))
    if kind == "llama3":
        return base, RopeScaling(
            "llama3",
            _number(scaling, "factor"),
            _number(scaling, "low_freq_factor"),
            _number(scaling, "high_freq_factor"),
            int(_number(scaling, "original_max_position_embeddings")),
        )
    raise _refuse("rope scaling", "default, linear or llama3", repr(kind)[:40])


def _window(config: dict[str, Any], architecture: Architecture) -> int | None:
    """The sliding window, where any layer has one. The engine slides no windows: it stays within."""
    window: int | None = _get(config, "sliding_window", int, None)
    if not architecture.own_window_switch or window is None:
        return window
    kinds = _get(config, "layer_types", list, None)
    if kinds is not None:
        return window if any(kind != "full_attention" for kind in kinds) else None
    if not _get(config, "use_sliding_window", bool, False):
        return None
    layers = _get(config, "num_hidden_layers", int)
    return window if _get(config, "max_window_layers", int, layers) < layers else None


def parameters_from_config(config: dict[str, Any]) -> LlamaParameters:
    """Hyper-parameters from a config.json; ModelError says what isn't supported."""
    model_type = config.get(
        "model_type", "llama" if "LlamaForCausalLM" in str(config.get("architectures")) else None
    )
    architecture = BY_MODEL_TYPE.get(model_type) if isinstance(model_type, str) else None
    if architecture is None:
        raise _refuse(
            "architecture",
            f"model_type {', '.join(BY_MODEL_TYPE)}",
            f"model_type {model_type!r:.60}",
            "ruvq converts models of the kinds listed",
        )
    if config.get("quantization_config"):
        method = config["quantization_config"]
        name = method.get("quant_method", "unknown") if isinstance(method, dict) else "unknown"
        raise _refuse(
            "checkpoint", "float weights", f"weights quantized by {name!r}", "start from the float model"
        )
    activation = _get(config, "hidden_act", str, "silu")
    if activation not in ("silu", "swish"):
        raise _refuse("activation", "silu", repr(activation))
    if _get(config, "mlp_bias", bool, False):
        raise _refuse("feed-forward bias", "mlp_bias false", "true")
    for key in ("dual_chunk_attention_config", "partial_rotary_factor"):
        if config.get(key) not in (None, 1, 1.0):
            raise _refuse("attention", f"no {key}", repr(config[key])[:60])
    base, scaling = _rope(config)
    heads = _get(config, "num_attention_heads", int)
    width = _get(config, "hidden_size", int)
    head_width = _get(config, "head_dim", int, architecture.head_width)
    if heads < 1 or (head_width is None and width % heads):
        raise _refuse("attention", f"a number of heads that divides {width}", str(heads))
    context = _get(config, "max_position_embeddings", int, 2048)
    window = _window(config, architecture)
    return LlamaParameters(
        vocab_size=_get(config, "vocab_size", int),
        width=width,
        layers=_get(config, "num_hidden_layers", int),
        heads=heads,
        kv_heads=_get(config, "num_key_value_heads", int, heads),
        head_width=width // heads if head_width is None else head_width,
        ff_width=_get(config, "intermediate_size", int),
        context=context if window is None else min(context, window),
        rms_epsilon=_number(config, "rms_norm_eps", 1e-6),
        rope_base=base,
        rope_scaling=scaling,
        tied=_get(config, "tie_word_embeddings", bool, False),
        attention_bias=_get(config, "attention_bias", bool, False),
        architecture=architecture.name,
    )


def gguf_name(name: str) -> str | None:
    """GGUF's name of a Hugging Face tensor, the name itself when it has none, None for what isn't needed."""
    short = name.removeprefix("model.")
    if short.endswith("rotary_emb.inv_freq"):
        return None  # recomputed from the configuration
    if short in _OTHER:
        return _OTHER[short]
    parts = short.split(".", 2)
    if len(parts) == 3 and parts[0] == "layers" and parts[1].isdecimal() and parts[2] in _LAYER:
        return f"blk.{int(parts[1])}.{_LAYER[parts[2]]}"
    return name


def huggingface_name(name: str) -> str:
    """Hugging Face's name of a tensor that GGUF calls `name`; the name itself when it has none there."""
    for theirs, ours in _OTHER.items():
        if ours == name:
            return theirs if theirs.startswith("lm_head") else f"model.{theirs}"
    _, _, rest = name.partition(".")
    layer, _, module = rest.partition(".")
    theirs = next((t for t, ours in _LAYER.items() if ours == module), "")
    return f"model.layers.{layer}.{theirs}" if theirs else name


def _shards(folder: Path) -> list[Path]:
    """The files that the index names, each a plain name inside the folder and present."""
    weights = read_json(folder / INDEX).get("weight_map")
    if not isinstance(weights, dict) or not all(isinstance(f, str) for f in weights.values()) or not weights:
        raise FileFormatError(
            "the shard index is unusable",
            subject=str(folder / INDEX),
            expected="weight_map: tensor name -> file name",
            actual=type(weights).__name__,
        )
    names = sorted(set(weights.values()))
    for name in names:
        if Path(name).name != name or name in (".", "..") or "\\" in name or "\0" in name:
            raise FileFormatError(
                "the shard index points outside its folder",
                subject=str(folder / INDEX),
                expected="plain file names",
                actual=repr(name)[:80],
            )
        if not (folder / name).is_file():
            raise StorageError(
                "a shard is missing",
                subject=str(folder / name),
                expected=f"{len(names)} shards",
                actual=f"no file {name}",
                hint="download the rest of the model",
            )
    return [folder / name for name in names]


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder; StorageError when there are none."""
    if (folder / INDEX).is_file():
        return _shards(folder)
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    others = sorted(p.name for p in folder.glob("*.safetensors"))
    if len(others) == 1:
        return [folder / others[0]]
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth"))
    onnx = sorted(p.name for p in folder.glob("*.onnx"))
    hint = "convert pickled weights with save_pretrained(..., safe_serialization=True)" if pickles else ""
    if onnx:
        hint = f"to read the ONNX decoder name its file: {folder / onnx[0]}"
    raise StorageError(
        "the folder holds no safetensors weights",
        subject=str(folder),
        expected=f"{SINGLE} or {INDEX}",
        actual=", ".join((others or onnx or pickles)[:3]) or "neither",
        hint=hint,
    )


def open_huggingface(
    files: list[Path], config: dict[str, Any], path: Path, tokenizer: Any, name: str, kind: str
) -> Source:
    """A model of safetensors `files` and a parsed config.json; `tokenizer` is a TokenizerSpec or None."""
    parameters = parameters_from_config(config)
    opened: list[SafetensorsFile] = []

    def close() -> None:
        for file in opened:
            file.close()

    try:
        places: dict[str, tuple[SafetensorsFile, str]] = {}
        for file_path in files:
            file = SafetensorsFile(file_path)
            opened.append(file)
            for source_name in file.entries:
                target = gguf_name(source_name)
                if target is None or (target == "output.weight" and parameters.tied):
                    continue
                if target in places:
                    raise FileFormatError(
                        "a tensor appears twice",
                        subject=str(file_path),
                        expected="each tensor once",
                        actual=f"{source_name}, also in {places[target][0].path.name}",
                        hint="the folder mixes files of several exports",
                    )
                places[target] = (file, source_name)
        shapes = {target: file.entries[n].shape for target, (file, n) in places.items()}
        if parameters.rope_scaling is not None and parameters.rope_scaling.kind == "llama3":
            shapes["rope_freqs.weight"] = (parameters.head_width // 2,)
        check_shapes(parameters, shapes, {target: n for target, (_, n) in places.items()})
        tensors = {}
        for target, shape in parameters.shapes().items():
            if target == "rope_freqs.weight":
                factors = llama3_frequency_factors(parameters)
                tensors[target] = TensorInfo(target, shape, "f32", lambda first, last, f=factors: f)  # type: ignore[misc]
                continue
            file, source_name = places[target]
            reader = to_gguf_order(partial(file.rows, source_name), target, shape[-1], parameters)
            tensors[target] = TensorInfo(target, shape, file.dtype(source_name), reader)
    except BaseException:
        close()
        raise
    notes = []
    if parameters.context < _get(config, "max_position_embeddings", int, 2048):
        notes.append(f"the context is cut to the sliding window of {parameters.context} tokens")
    return Source(
        path=path,
        kind=kind,
        name=name,
        parameters=parameters,
        tensors=tensors,
        tokenizer=tokenizer,
        notes=notes,
        files=files,
        close=close,
    )
