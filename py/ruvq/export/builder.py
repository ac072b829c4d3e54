"""What an ONNX decoder is put together from: nodes, the weights they ask for, and small constants.

Activations are (tokens, width) throughout, tokens = batch * sequence, so that a product is one Gemm with the
weights as they are stored, (rows, width). Names are those that exporters of Hugging Face models leave.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, ValueInfoProto, helper

from ..sources.huggingface import huggingface_name
from ..sources.llama import LlamaParameters
from .int4 import BLOCK, blocks

CONTRIB = "com.microsoft"


@dataclass(frozen=True)
class Weight:
    """An initializer: `source` is GGUF's name of the tensor it is made of, `part` what of it."""

    name: str
    kind: int  # TensorProto.DataType
    shape: tuple[int, ...]
    source: str
    part: str = "floats"  # or "codes", "steps"

    @property
    def nbytes(self) -> int:
        """Bytes as raw data."""
        return math.prod(self.shape) * helper.tensor_dtype_to_np_dtype(self.kind).itemsize


@dataclass
class Builder:
    """Collects a graph. `int4`: products of weights by MatMulNBits."""

    parameters: LlamaParameters
    int4: bool = False
    accuracy_level: int = 0
    nodes: list[NodeProto] = field(default_factory=list)
    weights: dict[str, Weight] = field(default_factory=dict)
    constants: dict[str, Any] = field(default_factory=dict)
    inputs: list[ValueInfoProto] = field(default_factory=list)
    outputs: list[ValueInfoProto] = field(default_factory=list)

    def node(
        self, op: str, inputs: list[str], name: str, output: str = "", domain: str = "", **options: Any
    ) -> str:
        """Adds a node of one output; gives the output's name."""
        output = output or f"{name}_output_0"
        self.nodes.append(helper.make_node(op, inputs, [output], name=name, domain=domain, **options))
        return output

    def constant(self, name: str, value: Any) -> str:
        """A small initializer, a NumPy array."""
        self.constants.setdefault(name, value)
        return name

    def ints(self, name: str, *values: int) -> str:
        """A constant shape or list of axes."""
        return self.constant(f"shape.{name}", np.array(values, np.int64))

    def weight(self, source: str, kind: int = TensorProto.FLOAT) -> str:
        """The initializer of one of the model's tensors."""
        weight = Weight(huggingface_name(source), kind, self.parameters.shapes()[source], source)
        return self.weights.setdefault(weight.name, weight).name

    def join(self, parts: list[str], name: str, axis: int = 0) -> str:
        """Concat, of shapes by default."""
        return self.node("Concat", parts, name, axis=axis)

    def linear(self, x: str, target: str, name: str) -> str:
        """x (tokens, width) → (tokens, rows) by the matrix `target`, with its bias if it has one."""
        source, bias = f"{target}.weight", f"{target}.bias"
        biases = [self.weight(bias)] if bias in self.parameters.shapes() else []
        if not self.int4:
            return self.node("Gemm", [x, self.weight(source), *biases], f"{name}/Gemm", transB=1)
        rows, width = self.parameters.shapes()[source]
        module = "lm_head" if name == "/lm_head" else huggingface_name(source).removesuffix(".weight")
        shape = (rows, blocks(width), BLOCK // 2)
        codes = Weight(f"{module}.weight_Q4", TensorProto.UINT8, shape, source, "codes")
        steps = Weight(f"{module}.weight_scales", TensorProto.FLOAT, (rows * blocks(width),), source, "steps")
        self.weights |= {codes.name: codes, steps.name: steps}
        options: dict[str, Any] = {"K": width, "N": rows, "bits": 4, "block_size": BLOCK}
        options["accuracy_level"] = self.accuracy_level
        inputs = [x, codes.name, steps.name]
        out = self.node("MatMulNBits", inputs, f"{name}/MatMulNBits", domain=CONTRIB, **options)
        return self.node("Add", [out, *biases], f"{name}/Add") if biases else out

    def norm(self, x: str, source: str, name: str) -> str:
        """RMS norm over the last axis, with the gain `source`."""
        square = self.node("Mul", [x, x], f"{name}/Pow")
        mean = self.node("ReduceMean", [square], f"{name}/ReduceMean", axes=[-1], keepdims=1)
        epsilon = self.constant("rms_epsilon", np.array([self.parameters.rms_epsilon], np.float32))
        root = self.node("Sqrt", [self.node("Add", [mean, epsilon], f"{name}/Add")], f"{name}/Sqrt")
        return self.node(
            "Mul", [self.node("Div", [x, root], f"{name}/Div"), self.weight(source)], f"{name}/Mul"
        )
