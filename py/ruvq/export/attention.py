"""Grouped-query attention of an ONNX decoder: of plain operators, or by com.microsoft's GroupQueryAttention.

`Attention` first makes what all layers share (positions, cosines and sines, the mask), then each layer's.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from .builder import CONTRIB, Builder

FUSED_HEADS = 16  # GroupQueryAttention turns heads of whole multiples of this width


class Attention:
    """Adds attention to a graph whose input is "input_ids" (batch, sequence).

    `cache`: keys and values of earlier tokens are inputs, of all tokens outputs. `fused`: one operator of
    onnxruntime, which needs the cache. `factors`: rope_freqs.weight divides the rotary frequencies."""

    def __init__(self, graph: Builder, cache: bool, fused: bool, factors: bool) -> None:
        self.graph, self.cache, self.fused = graph, cache, fused
        self._shapes()
        self._rotation(factors)
        if fused:
            self._lengths()
        else:
            self._mask()

    def layer(self, h: str, layer: int, at: str) -> str:
        """(tokens, width) → (tokens, width), o_proj included; `at`: the beginning of its names."""
        g, p, source = self.graph, self.graph.parameters, f"blk.{layer}"
        q, k, v = (g.linear(h, f"{source}.attn_{n}", f"{at}/{n}_proj") for n in "qkv")
        gains = [f"{source}.attn_{n}_norm.weight" if p.kind.head_norms else None for n in "qk"]
        q = self._heads(q, p.heads, f"{at}/q_proj", gains[0])
        k = self._heads(k, p.kv_heads, f"{at}/k_proj", gains[1])
        v = self._heads(v, p.kv_heads, f"{at}/v_proj", None)
        mixed = self._fused(q, k, v, layer, at) if self.fused else self._plain(q, k, v, layer, at)
        flat = g.node("Reshape", [mixed, g.ints("rows", -1, p.heads * p.head_width)], f"{at}/Reshape_1")
        return g.linear(flat, f"{source}.attn_output", f"{at}/o_proj")

    # ---- what all layers share ----

    def _shapes(self) -> None:
        """Makes "batch" and "sequence", (1,) int64, "past" and "total", scalars."""
        g = self.graph
        shape = g.node("Shape", ["input_ids"], "/shape")
        for i, name in enumerate(("batch", "sequence")):
            g.node("Gather", [shape, g.ints(f"at{i}", i)], f"/{name}", name, axis=0)
        if self.cache:
            sizes = g.node("Shape", ["past_key_values.0.key"], "/past_shape")
            past = g.node("Gather", [sizes, g.ints("at2", 2)], "/past", axis=0)
        else:
            past = g.ints("none", 0)
        g.node("Squeeze", [past], "/past_scalar", "past")
        g.node("Squeeze", [g.node("Add", [past, "sequence"], "/total")], "/total_scalar", "total")

    def _rotation(self, factors: bool) -> None:
        """Makes "cos" and "sin": (sequence, head_width / 2), of angles in double as the engine has them; for
        the fused operator (total, head_width / 2)."""
        g, p = self.graph, self.graph.parameters
        scale = 1 / p.rope_scaling.factor if p.rope_scaling and p.rope_scaling.kind == "linear" else 1.0
        powers = -2.0 * np.arange(p.head_width // 2) / p.head_width
        frequencies = g.constant("rotary.frequencies", p.rope_base**powers * scale)
        if factors:
            stored = g.weight("rope_freqs.weight")
            divisors = g.node("Cast", [stored], "/rotary/Cast", to=TensorProto.DOUBLE)
            frequencies = g.node("Div", [frequencies, divisors], "/rotary/Div")
        first = g.constant("zero", np.array(0, np.int64)) if self.fused else "past"
        one = g.constant("one", np.array(1, np.int64))
        positions = g.node("Range", [first, "total", one], "/positions")
        column = g.node("Unsqueeze", [positions, g.ints("last", -1)], "/positions/column", "position_column")
        turns = g.node("Cast", [column], "/rotary/positions", to=TensorProto.DOUBLE)
        angles = g.node("Mul", [turns, frequencies], "/rotary/Mul")
        for op in ("Cos", "Sin"):
            value = g.node(op, [angles], f"/rotary/{op}")
            g.node("Cast", [value], f"/rotary/{op}/Cast", op.lower(), to=TensorProto.FLOAT)

    def _mask(self) -> None:
        """Makes "allowed": (sequence, total), whether a token sees another."""
        g = self.graph
        keys = g.node("Range", [g.constant("zero", np.array(0, np.int64)), "total", "one"], "/keys")
        g.node("LessOrEqual", [keys, "position_column"], "/mask", "allowed")

    def _lengths(self) -> None:
        """Makes what GroupQueryAttention wants to know: "last" (batch,) and "tokens" (), int32."""
        g = self.graph
        g.node("Cast", ["total"], "/tokens", "tokens", to=TensorProto.INT32)
        last = g.node("Sub", ["tokens", g.constant("one32", np.array(1, np.int32))], "/last_position")
        g.node("Expand", [last, "batch"], "/last", "last")

    # ---- a layer ----

    def _heads(self, x: str, heads: int, name: str, gain: str | None) -> str:
        """(tokens, heads * head_width) → (batch, heads, sequence, head_width), normed if there is a gain;
        (batch, sequence, heads * head_width) for the fused operator."""
        g, width = self.graph, self.graph.parameters.head_width
        if gain is not None:
            parts = g.node("Reshape", [x, g.ints(f"split{heads}", -1, heads, width)], f"{name}/Reshape_heads")
            x = g.norm(parts, gain, name.replace("_proj", "_norm"))
        sizes = g.ints(f"heads{heads}", *((heads * width,) if self.fused else (heads, width)))
        x = g.node("Reshape", [x, g.join(["batch", "sequence", sizes], f"{name}/shape")], f"{name}/Reshape")
        return x if self.fused else g.node("Transpose", [x], f"{name}/Transpose", perm=[0, 2, 1, 3])

    def _rotate(self, x: str, name: str) -> str:
        """RoPE: element i turns with element i + head_width / 2."""
        g, half = self.graph, self.graph.parameters.head_width // 2
        first, second = f"{name}/Split_output_0", f"{name}/Split_output_1"
        split = [x, g.ints("halves", half, half)]
        g.nodes.append(helper.make_node("Split", split, [first, second], name=f"{name}/Split", axis=-1))
        parts = []
        for i, (a, b, op) in enumerate(((first, second, "Sub"), (second, first, "Add"))):
            left = g.node("Mul", [a, "cos"], f"{name}/Mul_{2 * i}")
            right = g.node("Mul", [b, "sin"], f"{name}/Mul_{2 * i + 1}")
            parts.append(g.node(op, [left, right], f"{name}/{op}"))
        return g.join(parts, f"{name}/Concat", axis=-1)

    def _declare(self, layer: int, kind: str) -> tuple[str, str]:
        """Declares a layer's cache as input and output; gives both names."""
        g, p = self.graph, self.graph.parameters
        names = f"past_key_values.{layer}.{kind}", f"present.{layer}.{kind}"
        lengths = ("past_sequence", g.inputs), ("total_sequence", g.outputs)
        for name, (tokens, where) in zip(names, lengths, strict=True):
            shape: list[str | int | None] = ["batch", p.kv_heads, tokens, p.head_width]
            where.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return names

    def _cached(self, x: str, layer: int, kind: str) -> str:
        """With the keys or values of earlier tokens before them."""
        if not self.cache:
            return x
        past, present = self._declare(layer, kind)
        return self.graph.node("Concat", [past, x], f"/{present}/Concat", present, axis=2)

    def _plain(self, q: str, k: str, v: str, layer: int, at: str) -> str:
        """Gives (batch, sequence, kv_heads, heads / kv_heads, head_width)."""
        g, p = self.graph, self.graph.parameters
        q, k = self._rotate(q, f"{at}/rotary_q"), self._rotate(k, f"{at}/rotary_k")
        k, v = self._cached(k, layer, "key"), self._cached(v, layer, "value")
        groups, tail = g.ints("groups", p.kv_heads, p.heads // p.kv_heads), g.ints("head", p.head_width)
        shape = g.join(["batch", groups, "sequence", tail], f"{at}/shape")
        q = g.node("Reshape", [q, shape], f"{at}/Reshape")  # (batch, kv_heads, group, sequence, head_width)
        axis = g.ints("two", 2)
        k, v = (g.node("Unsqueeze", [x, axis], f"{at}/Unsqueeze_{n}") for x, n in ((k, "k"), (v, "v")))
        keys = g.node("Transpose", [k], f"{at}/Transpose_k", perm=[0, 1, 2, 4, 3])
        scale = g.constant("scale", np.array(1 / np.sqrt(p.head_width), np.float32))
        scores = g.node("Mul", [g.node("MatMul", [q, keys], f"{at}/MatMul"), scale], f"{at}/Mul")
        never = g.constant("never", np.array(-np.inf, np.float32))
        scores = g.node("Where", ["allowed", scores, never], f"{at}/Where")
        share = g.node("Softmax", [scores], f"{at}/Softmax", axis=-1)
        mixed = g.node("MatMul", [share, v], f"{at}/MatMul_1")
        return g.node("Transpose", [mixed], f"{at}/Transpose", perm=[0, 3, 1, 2, 4])

    def _fused(self, q: str, k: str, v: str, layer: int, at: str) -> str:
        """Gives (batch, sequence, heads * head_width)."""
        p = self.graph.parameters
        caches = [self._declare(layer, kind) for kind in ("key", "value")]
        inputs = [q, k, v, *(past for past, _ in caches), "last", "tokens", "cos", "sin"]
        out = f"{at}/GroupQueryAttention_output_0"
        node = helper.make_node(
            "GroupQueryAttention",
            inputs,
            [out, *(present for _, present in caches)],
            name=f"{at}/GroupQueryAttention",
            domain=CONTRIB,
            num_heads=p.heads,
            kv_num_heads=p.kv_heads,
            do_rotary=1,
        )
        self.graph.nodes.append(node)
        return out
