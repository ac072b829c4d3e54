"""llama.cpp's layout: a GGUF file with general.type "adapter", with NAME.lora_a and NAME.lora_b for a matrix.

B's rows lie in the order of the matrix's rows in GGUF, which for q and k of llama isn't Hugging Face's.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, FileFormatError, ModelError, UsageError
from ..gguf import GGUFFile, GGUFWriter, TensorSpec, Typed
from ..quantize.tensors import QuantizedTensor, dequantize
from ..sources import LlamaParameters
from ..sources.huggingface import gguf_name, huggingface_name
from ..sources.rotary import row_order
from .lora import Lora, Matrix, checked_pair

TYPES = {"f32": "<f4", "f16": "<f2"}
_LARGEST = {"f32": np.finfo(np.float32).max, "f16": np.finfo(np.float16).max}


def to_gguf(lora: Lora, parameters: LlamaParameters) -> Lora:
    """The same with GGUF's names and order of rows. ModelError where the base hasn't got such a matrix."""
    pairs, shapes = {}, parameters.shapes()
    for module, pair in lora.pairs.items():
        target = gguf_name(f"{module}.weight") or ""
        wanted, found = shapes.get(target), (len(pair.b), pair.a.shape[1])
        if wanted != found or target == "token_embd.weight":
            raise ModelError(
                "the adapter belongs to another base model", subject=module,
                expected=f"a matrix of the base, {'with this name' if wanted is None else wanted}",
                actual=str(found), hint="adapters of embeddings and of tied outputs can't be applied",
            )  # fmt: skip
        order = row_order(target, parameters)
        pairs[target] = pair if order is None else replace(pair, b=pair.b[order])
    return Lora(pairs, parameters.architecture, lora.base)


def from_gguf(lora: Lora, parameters: LlamaParameters) -> Lora:
    """The same with Hugging Face's names and order of rows."""
    if lora.architecture != parameters.architecture:
        raise ModelError(
            "the adapter belongs to another base model", subject="general.architecture",
            expected=parameters.architecture, actual=lora.architecture,
        )  # fmt: skip
    pairs = {}
    for target, pair in lora.pairs.items():
        order = row_order(target, parameters)
        if order is not None:
            if len(order) != len(pair.b):
                raise ModelError(
                    "the adapter belongs to another base model", subject=target,
                    expected=f"{len(order)} rows", actual=str(len(pair.b)),
                )  # fmt: skip
            back = np.empty_like(pair.b)
            back[order] = pair.b
            pair = replace(pair, b=back)
        pairs[huggingface_name(target).removesuffix(".weight")] = pair
    return Lora(pairs, base=lora.base)


def read_gguf(path: str | os.PathLike[str]) -> Lora:
    """The adapter in a file. FileFormatError for a file that is none, and as `GGUFFile.open` raises."""
    with GGUFFile.open(path) as file:
        kind = [file.metadata.get(key) for key in ("general.type", "adapter.type")]
        if kind != ["adapter", "lora"]:
            raise FileFormatError(
                "this file is no LoRA adapter", subject=str(path), expected="general.type adapter",
                actual=str(kind[0] or "no general.type"), hint="is it the model itself?",
            )  # fmt: skip
        alpha = file.metadata.get("adapter.lora.alpha", 0.0)
        if isinstance(alpha, bool) or not isinstance(alpha, int | float):
            raise FileFormatError(
                "a key of the adapter is unusable", subject="adapter.lora.alpha", expected="a number",
                actual=type(alpha).__name__,
            )  # fmt: skip
        names = {tensor.name for tensor in file.tensors}
        pairs = {}
        for name in sorted({n.rpartition(".lora_")[0] for n in names}):
            if not name or {f"{name}.lora_a", f"{name}.lora_b"} - names:
                raise FileFormatError(
                    "an adapter has half a pair", subject=f"{path}: {name or min(names)}",
                    expected=".lora_a and .lora_b", actual="one of them",
                )  # fmt: skip
            a, b = (_decoded(file, f"{name}.lora_{part}") for part in "ab")
            pairs[name] = checked_pair(name, a, b, alpha / len(a) if alpha else 1.0, str(path))
        base = file.metadata.get("general.base_model.0.name", "")
        return Lora(pairs, file.architecture, base if isinstance(base, str) else "")


def _decoded(file: GGUFFile, name: str) -> Matrix:
    tensor = file.tensor(name)
    if not tensor.runnable or len(tensor.shape) != 2:
        raise FileFormatError(
            "a tensor of the adapter can't be read", subject=name,
            expected="a matrix in a format that ruvq runs", actual=f"{tensor.format} {tensor.shape}",
        )  # fmt: skip
    return np.asarray(
        dequantize(QuantizedTensor(tensor.format, tensor.shape, bytes(file.tensor_bytes(name))))
    )


def write_gguf_adapter(path: str | os.PathLike[str], lora: Lora, *, type: str = "f16") -> None:
    """Writes the file, in whole or not at all. `type`: f32 or f16. DataError for what f16 can't hold."""
    if type not in TYPES:
        raise UsageError("unknown type of numbers", subject="type", expected=", ".join(TYPES), actual=type)
    alphas = {round(pair.scale * pair.rank, 9) for pair in lora.pairs.values()}
    alpha = alphas.pop() if len(alphas) == 1 else 0.0  # 0: B holds the scales
    metadata: dict[str, Any] = {
        "general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": Typed(alpha, "f32"),
        "general.name": Path(path).stem,
    }  # fmt: skip
    if lora.base:
        metadata["general.base_model.0.name"] = lora.base
        metadata["general.base_model.count"] = Typed(1, "u32")
    tensors = {}
    for name, pair in lora.pairs.items():
        tensors[f"{name}.lora_a"] = pair.a
        tensors[f"{name}.lora_b"] = pair.b if alpha else pair.b * np.float32(pair.scale)
    specs = [TensorSpec(name, type, values.shape) for name, values in tensors.items()]
    for name, values in tensors.items():
        if np.abs(values).max() > _LARGEST[type]:
            raise DataError(
                "a number is too large", subject=name,
                expected=f"at most {_LARGEST[type]:.0f}, as {type} holds",
                actual=f"{np.abs(values).max():.4g}", hint="use --type f32",
            )  # fmt: skip
    with GGUFWriter(path, lora.architecture, metadata, specs) as writer:
        for name, values in tensors.items():
            writer.write(name, values.astype(TYPES[type]).tobytes())
