"""From what ruvq reads (`open_source`) to a transformers model and back to GGUF's names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import MissingDependencyError, ModelError
from ..sources import LlamaParameters, Source
from ..sources.huggingface import gguf_name, parameters_from_config
from ..sources.llama import rotary_rows

_CLASSES = {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3"}
HALVES = {"f16": torch.float16, "bf16": torch.bfloat16}
READ = 1 << 22  # weights that are read at a time


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise MissingDependencyError(
            "transformers is needed to train", actual=str(error), hint="run `pip install 'ruvq[train]'`"
        ) from error
    return transformers


def _rope(parameters: LlamaParameters) -> dict[str, Any]:
    scaling = parameters.rope_scaling
    rope: dict[str, Any] = {"rope_theta": parameters.rope_base, "rope_type": "default"}
    if scaling is None:
        return rope
    if scaling.kind == "llama3" and scaling.factor == 1.0:
        raise ModelError(
            "a GGUF file doesn't say how its rotary frequencies were scaled", subject="rope_freqs.weight",
            expected="a Hugging Face folder", actual="a GGUF file", hint="train from the original model",
        )  # fmt: skip
    rope |= {"rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind == "llama3":
        rope |= {
            "low_freq_factor": scaling.low_frequency_factor,
            "high_freq_factor": scaling.high_frequency_factor,
            "original_max_position_embeddings": scaling.original_context,
        }
    return rope


def config_of(parameters: LlamaParameters) -> Any:
    """The transformers configuration of a model."""
    transformers = _transformers()
    p, rope = parameters, _rope(parameters)
    values: dict[str, Any] = {
        "vocab_size": p.vocab_size,
        "hidden_size": p.width,
        "intermediate_size": p.ff_width,
        "num_hidden_layers": p.layers,
        "num_attention_heads": p.heads,
        "num_key_value_heads": p.kv_heads,
        "head_dim": p.head_width,
        "max_position_embeddings": p.context,
        "rms_norm_eps": p.rms_epsilon,
        "tie_word_embeddings": p.tied,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    if int(transformers.__version__.split(".")[0]) >= 5:
        values["rope_parameters"] = rope
    else:
        values["rope_theta"] = rope["rope_theta"]
        values["rope_scaling"] = None if p.rope_scaling is None else rope
    if p.architecture != "qwen2":
        values["attention_bias"] = p.attention_bias
    return getattr(transformers, _CLASSES[p.architecture] + "Config")(**values)


def _permutation(name: str, parameters: LlamaParameters) -> list[int] | None:
    """Rows of Hugging Face's matrix in the order of GGUF's, None where it is the same."""
    heads = {"q_proj": parameters.heads, "k_proj": parameters.kv_heads}.get(name.split(".")[-2])
    if heads is None or parameters.kind.rope_neox:
        return None
    return rotary_rows(heads, parameters.head_width)


def load_model(source: Source, *, halves: bool = False) -> nn.Module:
    """The source as a transformers model on the CPU, in evaluation mode, in float32.

    `halves`: matrices that the source has in f16 or bf16 stay so; layers compute the same bits with them.
    """
    transformers = _transformers()
    parameters = source.parameters
    kind = getattr(transformers, _CLASSES[parameters.architecture] + "ForCausalLM")
    with torch.device("meta"):  # so that nothing is drawn at random, and nothing held twice
        model = kind(config_of(parameters)).float().eval()
    made: dict[int, nn.Parameter] = {}
    names = {id(tensor): name for name, tensor in _tensors(model)}
    for module in list(model.modules()):
        for key, tensor in list(module.named_parameters(recurse=False)):
            if id(tensor) not in made:
                made[id(tensor)] = nn.Parameter(_values(source, names[id(tensor)], halves))
            setattr(module, key, made[id(tensor)])
    rotary = model.model.rotary_emb
    model.model.rotary_emb = type(rotary)(config=model.config)  # its buffers are no parameters
    if halves:
        _widen(model)
    return model


def _values(source: Source, name: str, halves: bool) -> Tensor:
    """A parameter by Hugging Face's name, as float32 or in the source's 16 bits."""
    target, order = gguf_rows(name, source.parameters)
    info = source.tensors[target]
    narrow = HALVES.get(info.dtype) if halves and len(info.shape) > 1 else None
    out = torch.empty(info.shape, dtype=narrow or torch.float32)
    rows = out.view(info.rows, info.width)
    for first, values in info.chunks(max(1, READ // info.width)):
        last = first + len(values)
        place = slice(first, last) if order is None else torch.tensor(order[first:last])
        rows[place] = torch.from_numpy(np.array(values)).to(out.dtype)
    return out


class HalfLinear(nn.Linear):
    """A linear layer whose weights are held in 16 bits and used in 32."""

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight.float(), self.bias)


class HalfEmbedding(nn.Embedding):
    """An embedding whose rows are held in 16 bits and given in 32."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).float()


_WIDENED: dict[type, type] = {nn.Linear: HalfLinear, nn.Embedding: HalfEmbedding}


def _widen(model: nn.Module) -> None:
    """Lets the layers of 16 bits compute in 32, in place."""
    for module in model.modules():
        if type(module) in _WIDENED and module.weight.dtype in HALVES.values():
            module.__class__ = _WIDENED[type(module)]


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters under Hugging Face's names, tied ones once; a quantizer's own left out."""
    for name, tensor in model.named_parameters():
        if ".quantizer." not in name:
            yield name, tensor


def parameters_of(model: Any) -> LlamaParameters:
    """Hyper-parameters of a transformers model; ModelError for what ruvq can't run."""
    return parameters_from_config(model.config.to_dict())


def gguf_rows(name: str, parameters: LlamaParameters) -> tuple[str, list[int] | None]:
    """GGUF's name of a Hugging Face parameter, and the order that its rows are stored in."""
    target = gguf_name(name)
    if target is None or target == name:
        raise ModelError(
            "a parameter has no place in a GGUF file", subject=name, expected="a llama or qwen model's",
            actual=name,
        )  # fmt: skip
    return target, _permutation(name, parameters)
