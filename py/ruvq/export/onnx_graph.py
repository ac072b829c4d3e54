"""A llama-like decoder as an ONNX graph: nodes, and the weights they ask for, by name and shape.

Plain operators of opset 17, which every runtime has; with `int4` also com.microsoft's MatMulNBits.
Activations are (tokens, width) throughout, tokens = batch * sequence, so that a product is one Gemm with the
weights as they are stored, (rows, width). Names are those that exporters of Hugging Face models leave.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, ValueInfoProto, helper

from ..sources.huggingface import huggingface_name
from ..sources.llama import LlamaParameters
from .int4 import BLOCK, blocks

OPSET = 17
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
        return int(np.prod(self.shape)) * helper.tensor_dtype_to_np_dtype(self.kind).itemsize


@dataclass
class DecoderGraph:
    """Builds the graph: `nodes`, `weights`, `constants`, `inputs`, `outputs`.

    `int4`: products of weights by MatMulNBits, the embedding in f16. `cache`: keys and values of earlier
    tokens are inputs, of all tokens outputs."""

    parameters: LlamaParameters
    int4: bool = False
    cache: bool = False
    accuracy_level: int = 0
    factors: bool = False  # whether rope_freqs.weight divides the rotary frequencies
    nodes: list[NodeProto] = field(default_factory=list)
    weights: dict[str, Weight] = field(default_factory=dict)
    constants: dict[str, Any] = field(default_factory=dict)
    inputs: list[ValueInfoProto] = field(default_factory=list)
    outputs: list[ValueInfoProto] = field(default_factory=list)

    def build(self) -> DecoderGraph:
        """Everything, in the order in which data flows."""
        p = self.parameters
        self.inputs.append(
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])
        )
        self._shapes()
        self._rotation()
        self._mask()
        ids = self._node("Reshape", ["input_ids", self._ints("flat", [-1])], "/model/ids")
        table = self._weight("token_embd.weight", TensorProto.FLOAT16 if self.int4 else TensorProto.FLOAT)
        x = self._node("Gather", [table, ids], "/model/embed_tokens/Gather", axis=0)
        if self.int4:
            x = self._node("Cast", [x], "/model/embed_tokens/Cast", to=TensorProto.FLOAT)
        for layer in range(p.layers):
            x = self._layer(x, layer)
        x = self._norm(x, "output_norm.weight", "/model/norm")
        x = self._linear(x, "token_embd" if p.tied else "output", "/lm_head")
        shape = self._node(
            "Concat", ["batch", "sequence", self._ints("vocab", [p.vocab_size])], "/lm_head/shape", axis=0
        )
        self._node("Reshape", [x, shape], "/lm_head/Reshape", "logits")
        self.outputs.insert(
            0, helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "sequence", p.vocab_size])
        )
        return self

    # ---- pieces ----

    def _node(
        self, op: str, inputs: list[str], name: str, output: str = "", domain: str = "", **options: Any
    ) -> str:
        """Adds a node of one output; gives the output's name."""
        output = output or f"{name}_output_0"
        self.nodes.append(helper.make_node(op, inputs, [output], name=name, domain=domain, **options))
        return output

    def _constant(self, name: str, value: Any) -> str:
        self.constants.setdefault(name, value)
        return name

    def _ints(self, name: str, values: list[int]) -> str:
        return self._constant(f"shape.{name}", np.array(values, np.int64))

    def _weight(self, source: str, kind: int = TensorProto.FLOAT) -> str:
        weight = Weight(huggingface_name(source), kind, self.parameters.shapes()[source], source)
        return self.weights.setdefault(weight.name, weight).name

    def _linear(self, x: str, target: str, name: str) -> str:
        """x (tokens, width) → (tokens, rows) by the matrix `target`, with its bias if it has one."""
        source = f"{target}.weight"
        bias = f"{target}.bias" if f"{target}.bias" in self.parameters.shapes() else None
        if not self.int4:
            inputs = [x, self._weight(source), *([self._weight(bias)] if bias else [])]
            return self._node("Gemm", inputs, f"{name}/Gemm", transB=1)
        rows, width = self.parameters.shapes()[source]
        module = huggingface_name(source).removesuffix(".weight") if name != "/lm_head" else "lm_head"
        codes = Weight(
            f"{module}.weight_Q4", TensorProto.UINT8, (rows, blocks(width), BLOCK // 2), source, "codes"
        )
        steps = Weight(f"{module}.weight_scales", TensorProto.FLOAT, (rows * blocks(width),), source, "steps")
        self.weights |= {codes.name: codes, steps.name: steps}
        options: dict[str, Any] = {
            "K": width,
            "N": rows,
            "bits": 4,
            "block_size": BLOCK,
            "accuracy_level": self.accuracy_level,
        }
        out = self._node(
            "MatMulNBits", [x, codes.name, steps.name], f"{name}/MatMulNBits", domain=CONTRIB, **options
        )
        return self._node("Add", [out, self._weight(bias)], f"{name}/Add") if bias else out

    def _norm(self, x: str, source: str, name: str) -> str:
        """RMS norm over the last axis."""
        square = self._node("Mul", [x, x], f"{name}/Pow")
        mean = self._node("ReduceMean", [square], f"{name}/ReduceMean", axes=[-1], keepdims=1)
        epsilon = self._constant("rms_epsilon", np.array([self.parameters.rms_epsilon], np.float32))
        root = self._node("Sqrt", [self._node("Add", [mean, epsilon], f"{name}/Add")], f"{name}/Sqrt")
        return self._node(
            "Mul", [self._node("Div", [x, root], f"{name}/Div"), self._weight(source)], f"{name}/Mul"
        )

    def _layer(self, x: str, layer: int) -> str:
        at, source = f"/model/layers.{layer}", f"blk.{layer}"
        h = self._norm(x, f"{source}.attn_norm.weight", f"{at}/input_layernorm")
        mixed = self._attention(h, layer, f"{at}/self_attn", source)
        x = self._node("Add", [x, mixed], f"{at}/Add")
        h = self._norm(x, f"{source}.ffn_norm.weight", f"{at}/post_attention_layernorm")
        gate = self._linear(h, f"{source}.ffn_gate", f"{at}/mlp/gate_proj")
        up = self._linear(h, f"{source}.ffn_up", f"{at}/mlp/up_proj")
        share = self._node("Sigmoid", [gate], f"{at}/mlp/act_fn/Sigmoid")
        silu = self._node("Mul", [gate, share], f"{at}/mlp/act_fn/Mul")
        down = self._linear(
            self._node("Mul", [silu, up], f"{at}/mlp/Mul"), f"{source}.ffn_down", f"{at}/mlp/down_proj"
        )
        return self._node("Add", [x, down], f"{at}/Add_1")

    # ---- attention ----

    def _shapes(self) -> None:
        """Makes "batch" and "sequence", (1,) int64, "past" and "total", scalars."""
        shape = self._node("Shape", ["input_ids"], "/shape")
        for i, name in enumerate(("batch", "sequence")):
            self._node("Gather", [shape, self._ints(f"at{i}", [i])], f"/{name}", name, axis=0)
        if self.cache:
            sizes = self._node("Shape", ["past_key_values.0.key"], "/past_shape")
            past = self._node("Gather", [sizes, self._ints("at2", [2])], "/past", axis=0)
        else:
            past = self._ints("none", [0])
        self._node("Squeeze", [past], "/past_scalar", "past")
        total = self._node("Add", [past, "sequence"], "/total")
        self._node("Squeeze", [total], "/total_scalar", "total")

    def _rotation(self) -> None:
        """Makes "cos" and "sin": (sequence, head_width / 2), of angles in double as the engine has them."""
        p = self.parameters
        scale = 1 / p.rope_scaling.factor if p.rope_scaling and p.rope_scaling.kind == "linear" else 1.0
        powers = -2.0 * np.arange(p.head_width // 2) / p.head_width
        frequencies = self._constant("rotary.frequencies", p.rope_base**powers * scale)
        if self.factors:
            factors = self._node(
                "Cast", [self._weight("rope_freqs.weight")], "/rotary/Cast", to=TensorProto.DOUBLE
            )
            frequencies = self._node("Div", [frequencies, factors], "/rotary/Div")
        one = self._constant("one", np.array(1, np.int64))
        self._node("Range", ["past", "total", one], "/positions", "positions")
        column = self._node(
            "Unsqueeze", ["positions", self._ints("last", [-1])], "/positions/column", "position_column"
        )
        turns = self._node("Cast", [column], "/rotary/positions", to=TensorProto.DOUBLE)
        angles = self._node("Mul", [turns, frequencies], "/rotary/Mul")
        for op in ("Cos", "Sin"):
            self._node(
                "Cast",
                [self._node(op, [angles], f"/rotary/{op}")],
                f"/rotary/{op}/Cast",
                op.lower(),
                to=TensorProto.FLOAT,
            )

    def _mask(self) -> None:
        """Makes "allowed": (sequence, total), whether a token sees another."""
        zero = self._constant("zero", np.array(0, np.int64))
        keys = self._node("Range", [zero, "total", "one"], "/keys")
        self._node("LessOrEqual", [keys, "position_column"], "/mask", "allowed")

    def _heads(self, x: str, heads: int, name: str, gain: str | None) -> str:
        """(tokens, heads * head_width) → (batch, heads, sequence, head_width), normed if there is a gain."""
        sizes = self._ints(f"heads{heads}", [heads, self.parameters.head_width])
        shape = self._node("Concat", ["batch", "sequence", sizes], f"{name}/shape", axis=0)
        x = self._node("Reshape", [x, shape], f"{name}/Reshape")
        if gain is not None:
            x = self._norm(x, gain, name.replace("_proj", "_norm"))
        return self._node("Transpose", [x], f"{name}/Transpose", perm=[0, 2, 1, 3])

    def _rotate(self, x: str, name: str) -> str:
        """RoPE: element i turns with element i + head_width / 2."""
        half = self.parameters.head_width // 2
        first, second = f"{name}/Split_output_0", f"{name}/Split_output_1"
        split = [x, self._ints("halves", [half, half])]
        self.nodes.append(helper.make_node("Split", split, [first, second], name=f"{name}/Split", axis=-1))
        parts = []
        for i, (a, b, op) in enumerate(((first, second, "Sub"), (second, first, "Add"))):
            left = self._node("Mul", [a, "cos"], f"{name}/Mul_{2 * i}")
            right = self._node("Mul", [b, "sin"], f"{name}/Mul_{2 * i + 1}")
            parts.append(self._node(op, [left, right], f"{name}/{op}"))
        return self._node("Concat", parts, f"{name}/Concat", axis=-1)

    def _cached(self, x: str, layer: int, kind: str) -> str:
        """With the keys or values of earlier tokens before them."""
        if not self.cache:
            return x
        p, past, present = self.parameters, f"past_key_values.{layer}.{kind}", f"present.{layer}.{kind}"
        for name, tokens, where in (
            (past, "past_sequence", self.inputs),
            (present, "total_sequence", self.outputs),
        ):
            shape: list[str | int | None] = ["batch", p.kv_heads, tokens, p.head_width]
            where.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return self._node("Concat", [past, x], f"/{present}/Concat", present, axis=2)

    def _attention(self, h: str, layer: int, at: str, source: str) -> str:
        """Grouped-query attention of the layer: (tokens, width) → (tokens, width)."""
        p = self.parameters
        names = [f"{source}.attn_{n}_norm.weight" if p.kind.head_norms else None for n in "qk"]
        q = self._heads(
            self._linear(h, f"{source}.attn_q", f"{at}/q_proj"), p.heads, f"{at}/q_proj", names[0]
        )
        k = self._heads(
            self._linear(h, f"{source}.attn_k", f"{at}/k_proj"), p.kv_heads, f"{at}/k_proj", names[1]
        )
        v = self._heads(self._linear(h, f"{source}.attn_v", f"{at}/v_proj"), p.kv_heads, f"{at}/v_proj", None)
        q, k = self._rotate(q, f"{at}/rotary_q"), self._rotate(k, f"{at}/rotary_k")
        k, v = self._cached(k, layer, "key"), self._cached(v, layer, "value")
        group = p.heads // p.kv_heads
        sizes = self._ints("groups", [p.kv_heads, group])
        tail = self._ints("head", [p.head_width])
        shape = self._node("Concat", ["batch", sizes, "sequence", tail], f"{at}/shape", axis=0)
        q = self._node(
            "Reshape", [q, shape], f"{at}/Reshape"
        )  # (batch, kv_heads, group, sequence, head_width)
        axis = self._ints("two", [2])
        k, v = (self._node("Unsqueeze", [x, axis], f"{at}/Unsqueeze_{n}") for x, n in ((k, "k"), (v, "v")))
        keys = self._node("Transpose", [k], f"{at}/Transpose_k", perm=[0, 1, 2, 4, 3])
        scale = self._constant("scale", np.array(1 / np.sqrt(p.head_width), np.float32))
        scores = self._node("Mul", [self._node("MatMul", [q, keys], f"{at}/MatMul"), scale], f"{at}/Mul")
        never = self._constant("never", np.array(-np.inf, np.float32))
        share = self._node(
            "Softmax",
            [self._node("Where", ["allowed", scores, never], f"{at}/Where")],
            f"{at}/Softmax",
            axis=-1,
        )
        mixed = self._node("MatMul", [share, v], f"{at}/MatMul_1")
        mixed = self._node("Transpose", [mixed], f"{at}/Transpose", perm=[0, 3, 1, 2, 4])
        flat = self._node(
            "Reshape", [mixed, self._ints("rows", [-1, p.heads * p.head_width])], f"{at}/Reshape_1"
        )
        return self._linear(flat, f"{source}.attn_output", f"{at}/o_proj")
