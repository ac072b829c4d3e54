"""A llama-like decoder as an ONNX graph: input_ids (batch, sequence) → logits (batch, sequence, vocab_size).

Plain operators of opset 17, which every runtime has; in 4 bits also com.microsoft's.
"""

from __future__ import annotations

from onnx import TensorProto, helper

from ..sources.llama import LlamaParameters
from .attention import FUSED_HEADS, Attention
from .builder import Builder

OPSET = 17


def decoder_graph(
    parameters: LlamaParameters,
    *,
    int4: bool = False,
    cache: bool = False,
    accuracy_level: int = 0,
    factors: bool = False,
) -> Builder:
    """Everything, in the order in which data flows. `int4`: MatMulNBits, the embedding in f16, and with a
    cache GroupQueryAttention where it takes the heads' width. `factors`: the model has rope_freqs.weight."""
    p, g = parameters, Builder(parameters, int4, accuracy_level)
    g.inputs.append(helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"]))
    shape: list[str | int | None] = ["batch", "sequence", p.vocab_size]
    g.outputs.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape))
    fused = int4 and cache and p.head_width % FUSED_HEADS == 0
    attention = Attention(g, cache, fused, factors)
    ids = g.node("Reshape", ["input_ids", g.ints("flat", -1)], "/model/ids")
    table = g.weight("token_embd.weight", TensorProto.FLOAT16 if int4 else TensorProto.FLOAT)
    x = g.node("Gather", [table, ids], "/model/embed_tokens/Gather", axis=0)
    if int4:
        x = g.node("Cast", [x], "/model/embed_tokens/Cast", to=TensorProto.FLOAT)
    for layer in range(p.layers):
        x = _layer(g, attention, x, layer)
    x = g.norm(x, "output_norm.weight", "/model/norm")
    x = g.linear(x, "token_embd" if p.tied else "output", "/lm_head")
    whole = g.join(["batch", "sequence", g.ints("vocab", p.vocab_size)], "/lm_head/shape")
    g.node("Reshape", [x, whole], "/lm_head/Reshape", "logits")
    return g


def _layer(g: Builder, attention: Attention, x: str, layer: int) -> str:
    at, source = f"/model/layers.{layer}", f"blk.{layer}"
    h = g.norm(x, f"{source}.attn_norm.weight", f"{at}/input_layernorm")
    x = g.node("Add", [x, attention.layer(h, layer, f"{at}/self_attn")], f"{at}/Add")
    h = g.norm(x, f"{source}.ffn_norm.weight", f"{at}/post_attention_layernorm")
    gate, up = (g.linear(h, f"{source}.ffn_{n}", f"{at}/mlp/{n}_proj") for n in ("gate", "up"))
    share = g.node("Sigmoid", [gate], f"{at}/mlp/act_fn/Sigmoid")
    silu = g.node("Mul", [gate, share], f"{at}/mlp/act_fn/Mul")
    product = g.node("Mul", [silu, up], f"{at}/mlp/Mul")
    down = g.linear(product, f"{source}.ffn_down", f"{at}/mlp/down_proj")
    return g.node("Add", [x, down], f"{at}/Add_1")
