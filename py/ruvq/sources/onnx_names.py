"""What the names that exporters leave in an ONNX graph say: which layer and which module of it.

torch: /model/layers.3/self_attn/q_proj/MatMul and model.layers.3.self_attn.q_proj.weight; onnxruntime-genai:
model.layers.3.attn.qkv_proj.MatMul.weight, and the last norm as a layer's final_norm_layernorm.
"""

from __future__ import annotations

import re

from .onnx_file import Node

_MODULES = {
    "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output",
    "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down",
    "qkv_proj": "attn_q+attn_k+attn_v", "gate_up_proj": "ffn_gate+ffn_up",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "q_norm": "attn_q_norm", "k_norm": "attn_k_norm",
}  # fmt: skip
_LAYER = re.compile(r"(?:^|[./])layers[./](\d{1,4})[./]([\w./]+)")


def node_names(node: Node) -> tuple[str, ...]:
    """Names that a node gives its module: its own, its output's, the innermost of torch's scopes."""
    scopes = re.findall(r"'([^']*)'", node.scopes)
    return (node.name, *node.outputs[:1], *reversed(scopes))


def module_of(name: str) -> str | None:
    """The module that a name speaks of, as GGUF calls it, without "weight"; None for other names."""
    words = re.split(r"[./]", name)
    layer = _LAYER.search(name)
    if layer and "final_norm_layernorm" not in words:
        for word in re.split(r"[./]", layer[2]):
            if word in _MODULES:
                return "+".join(f"blk.{int(layer[1])}.{part}" for part in _MODULES[word].split("+"))
        return None
    if "lm_head" in words:
        return "output"
    if "embed_tokens" in words:
        return "token_embd"
    return "output_norm" if {"norm", "final_norm_layernorm"} & set(words) else None


def product_module(names: tuple[str, ...]) -> str | None:
    """The first module that the names of a product speak of; the output where its matrix is the embedding."""
    modules = [module for module in map(module_of, names) if module]
    for module in modules:
        if module not in ("token_embd", "output_norm") and not module.endswith("_norm"):
            return module
    return "output" if "token_embd" in modules else None
