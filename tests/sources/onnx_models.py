"""Small decoders as exporters of Hugging Face models leave them in ONNX: names, layout and the operators
around every weight. Attention is one operator without its other inputs: these graphs are read, not run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from ruvq.sources.llama import LlamaParameters
from sources.tiny_models import TINY, encode, hf_config, hf_tensors, write_tokenizer

KINDS = {
    "F32": TensorProto.FLOAT,
    "F16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "F64": TensorProto.DOUBLE,
}


class Exporter:
    """Adds nodes and initializers in the style of `torch` (TorchScript), `dynamo`, `dynamo-folded`, `genai`
    (the onnxruntime-genai builder) or `nameless`."""

    def __init__(
        self, style: str, weights: dict[str, np.ndarray], parameters: LlamaParameters, dtype: str
    ) -> None:
        self.style, self.parameters, self.dtype = style, parameters, dtype
        self.hf = hf_tensors(weights, parameters)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self._numbers: Iterator[int] = iter(range(10**6))

    def initializer(self, name: str, values: np.ndarray) -> str:
        kind = KINDS[self.dtype]
        raw = encode(np.ascontiguousarray(values), self.dtype)
        self.initializers[name] = helper.make_tensor(name, kind, values.shape, raw, raw=True)
        return name

    def node(self, op: str, inputs: list[str], module: str, domain: str = "", **options: Any) -> str:
        number = next(self._numbers)
        path = "/" + module.replace(".", "/").replace("/layers/", "/layers.")
        torch = self.style in ("torch", "genai")
        name = f"{path}/{op}_{number}" if torch else f"node_{op}_{number}"
        output = f"{path}/{op}_{number}_output_0" if torch else f"val_{number}"
        made = helper.make_node(op, inputs, [output], name=name, domain=domain, **options)
        if self.style.startswith("dynamo"):
            parts = module.split(".")
            scopes = ["", *(".".join(parts[: i + 1]) for i in range(len(parts))), name]
            entry = made.metadata_props.add()
            entry.key, entry.value = "pkg.torch.onnx.name_scopes", str(scopes)
        self.nodes.append(made)
        return output

    def linear(self, x: str, module: str, shown: str = "") -> str:
        """A product with a Linear's weights and bias."""
        weight, bias = self.hf[f"{module}.weight"], self.hf.get(f"{module}.bias")
        shown = shown or module
        if self.style == "dynamo":
            name = self.initializer(f"{module}.weight", weight)
            name = self.node("Transpose", [name], shown, perm=[1, 0])
        else:
            names = {"torch": f"onnx::MatMul_{next(self._numbers)}", "genai": f"{shown}.MatMul.weight"}
            name = names.get(self.style, f"val_{next(self._numbers)}")
            self.initializer(name, weight.T)
        out = self.node("MatMul", [x, name], shown)
        return (
            out
            if bias is None
            else self.bias(
                out, f"{shown}.Add.bias" if self.style == "genai" else f"{module}.bias", bias, shown
            )
        )

    def bias(self, x: str, name: str, values: np.ndarray, module: str) -> str:
        name = name if self.style != "nameless" else f"val_{next(self._numbers)}"
        return self.node("Add", [self.initializer(name, values), x], module)

    def norm(self, x: str, module: str, shown: str = "") -> str:
        shown = shown or module
        name = f"{shown}.weight" if self.style != "nameless" else f"val_{next(self._numbers)}"
        self.initializer(name, self.hf[f"{module}.weight"])
        if self.style == "genai":
            return self.node("SimplifiedLayerNormalization", [x, name], shown, epsilon=1e-5, axis=-1)
        root = self.node(
            "Sqrt", [self.node("ReduceMean", [self.node("Pow", [x, "two"], shown)], shown)], shown
        )
        return self.node("Mul", [name, self.node("Div", [x, root], shown)], shown)

    def joined(self, x: str, layer: str) -> list[str]:
        """The genai builder's one product for q, k and v."""
        modules = [f"{layer}.self_attn.{n}_proj" for n in "qkv"]
        shown = f"{layer}.attn.qkv_proj"
        weights = np.concatenate([self.hf[f"{m}.weight"] for m in modules])
        out = self.node("MatMul", [x, self.initializer(f"{shown}.MatMul.weight", weights.T)], shown)
        if f"{modules[0]}.bias" in self.hf:
            values = np.concatenate([self.hf[f"{m}.bias"] for m in modules])
            out = self.bias(out, f"{shown}.Add.bias", values, shown)
        return [out]

    def layer(self, x: str, number: int) -> str:
        at = f"model.layers.{number}"
        attention = f"{at}.attn" if self.style == "genai" else f"{at}.self_attn"
        h = self.norm(x, f"{at}.input_layernorm")
        norms = f"{at}.self_attn.q_norm.weight" in self.hf
        if self.style == "genai" and not norms:
            heads = self.joined(h, at)
        else:
            heads = [self.linear(h, f"{at}.self_attn.{n}_proj", f"{attention}.{n}_proj") for n in "qkv"]
            if norms:
                last = ".layernorm" if self.style == "genai" else ""
                for i, n in enumerate("qk"):
                    heads[i] = self.norm(heads[i], f"{at}.self_attn.{n}_norm", f"{attention}.{n}_norm{last}")
        mixed = self.node("GroupQueryAttention", heads, attention, "com.microsoft")
        x = self.node("Add", [x, self.linear(mixed, f"{at}.self_attn.o_proj", f"{attention}.o_proj")], at)
        h = self.norm(x, f"{at}.post_attention_layernorm")
        gate = self.linear(h, f"{at}.mlp.gate_proj")
        up = self.linear(h, f"{at}.mlp.up_proj")
        silu = self.node("Mul", [gate, self.node("Sigmoid", [gate], f"{at}.mlp.act_fn")], f"{at}.mlp.act_fn")
        down = self.linear(self.node("Mul", [silu, up], f"{at}.mlp"), f"{at}.mlp.down_proj")
        return self.node("Add", [x, down], at)

    def model(self) -> onnx.ModelProto:
        table = "model.embed_tokens.weight" if self.style != "nameless" else "table"
        embedding = self.initializer(table, self.hf["model.embed_tokens.weight"])
        x = self.node("Gather", [embedding, "input_ids"], "model.embed_tokens")
        for number in range(self.parameters.layers):
            x = self.layer(x, number)
        last = f"model.layers.{self.parameters.layers}.final_norm_layernorm"
        x = self.norm(x, "model.norm", last if self.style == "genai" else "")
        if "lm_head.weight" in self.hf:
            x = self.linear(x, "lm_head")
        else:
            turned = self.node("Transpose", [embedding], "lm_head", perm=[1, 0])
            x = self.node("MatMul", [x, turned], "lm_head")
        ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])
        logits = helper.make_tensor_value_info(x, TensorProto.FLOAT, None)
        two = helper.make_tensor("two", TensorProto.FLOAT, [], [2.0])
        graph = helper.make_graph(
            self.nodes, "main_graph", [ids], [logits], [two, *self.initializers.values()]
        )
        return helper.make_model(graph)


def onnx_decoder(
    weights: dict[str, np.ndarray],
    parameters: LlamaParameters = TINY,
    style: str = "torch",
    dtype: str = "F32",
) -> onnx.ModelProto:
    """The model in the style of an exporter."""
    return Exporter(style, weights, parameters, dtype).model()


def write_onnx(
    folder: Path,
    model: onnx.ModelProto,
    parameters: LlamaParameters = TINY,
    external: str = "",
    **changes: object,
) -> Path:
    """model.onnx with config.json and a tokenizer beside it; `external`: the file of the weights."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(hf_config(parameters, **changes)))
    write_tokenizer(folder / "tok.bin", parameters.vocab_size)
    path = folder / "model.onnx"
    if external:
        onnx.save_model(model, path, save_as_external_data=True, location=external, size_threshold=0)
    else:
        onnx.save_model(model, path)
    return path
