"""Class 21: ONNX files. Wire formats that lie, tensors whose data lies elsewhere than it may, and graphs that
are no decoder. (Links and special files beside a model are in tests/sources/test_onnx_source.py: they are no
single file.)"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from attacks.case import Case

READERS = ("native",)  # hosts that read ONNX
FLOAT, EXTERNAL = 1, 1
PARAMETERS = {
    "vocab_size": 4, "width": 2, "layers": 1, "heads": 1, "kv_heads": 1, "head_width": 2, "ff_width": 3,
    "context": 8, "tied": True,
}  # fmt: skip


def varint(value: int) -> bytes:
    out = bytearray()
    value &= (1 << 64) - 1
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: int | bytes | str) -> bytes:
    """A varint, or bytes with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    raw = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(raw)) + raw


def pair(key: str, value: str) -> bytes:
    return field(1, key) + field(2, value)


def tensor(
    name: str,
    dims: list[int],
    kind: int = FLOAT,
    raw: bytes | None = None,
    external: dict[str, str] | None = None,
) -> bytes:
    """A TensorProto; of floats zeros unless there is other data."""
    out = b"".join(field(1, n) for n in dims) + field(2, kind) + field(8, name)
    if external:
        entries = b"".join(field(13, pair(key, value)) for key, value in external.items())
        return out + entries + field(14, EXTERNAL)
    size = 4
    for n in dims:
        size *= n
    return out + field(9, bytes(size) if raw is None else raw)


def node(op: str, inputs: list[str], output: str, name: str = "", domain: str = "") -> bytes:
    edges = b"".join(field(1, i) for i in inputs) + field(2, output)
    return edges + field(3, name) + field(4, op) + (field(7, domain) if domain else b"")


def model(graph: bytes, parameters: Any = PARAMETERS, extra: bytes = b"") -> bytes:
    properties = field(14, pair("ruvq.parameters", json.dumps(parameters))) if parameters else b""
    return field(1, 9) + field(7, graph) + properties + extra


SHAPES = {
    "self_attn.q_proj": [2, 2], "self_attn.k_proj": [2, 2], "self_attn.v_proj": [2, 2],
    "self_attn.o_proj": [2, 2], "mlp.gate_proj": [2, 3], "mlp.up_proj": [2, 3], "mlp.down_proj": [3, 2],
}  # fmt: skip


def decoder(
    nodes: bytes = b"", initializers: bytes = b"", parameters: Any = PARAMETERS, extra: bytes = b""
) -> bytes:
    """The smallest model that is right, and what is added to it."""
    graph = field(5, tensor("model.embed_tokens.weight", [4, 2]))
    graph += field(1, node("Gather", ["model.embed_tokens.weight", "ids"], "x"))
    for name, shape in SHAPES.items():
        weight = f"model.layers.0.{name}.weight"
        graph += field(5, tensor(weight, shape)) + field(1, node("MatMul", ["x", weight], f"{name}.out"))
    for name in ("layers.0.input_layernorm", "layers.0.post_attention_layernorm", "norm"):
        weight = f"model.{name}.weight"
        graph += field(5, tensor(weight, [2])) + field(1, node("Mul", ["x", weight], f"{name}.out"))
    return model(graph + nodes + initializers, parameters, extra)


def graphs(depth: int) -> bytes:
    """Graphs inside attributes of nodes, each in the one before it."""
    inner = b""
    for _ in range(depth):
        attribute = field(1, "then_branch") + field(6, inner)
        inner = field(1, field(4, "If") + field(5, attribute))
    return inner


def placed(**external: str) -> bytes:
    return decoder(initializers=field(5, tensor("w", [4], external=external)))


def added(raw: bytes) -> bytes:
    """With one more initializer."""
    return decoder(initializers=field(5, raw))


def chain(length: int) -> bytes:
    """Copies of copies of a value."""
    return b"".join(field(1, node("Identity", [f"v{i}"], f"v{i + 1}")) for i in range(length))


DATA = "ok-onnx-smallest.onnx"  # a file of the corpus, for external data to lie in


def hostile() -> Iterator[tuple[str, bytes, str]]:
    """(name, file, what the error says)."""
    whole = decoder()
    yield "empty", b"", "not an ONNX model"
    yield "html", b"<!doctype html><html><body>not found</body></html>", "damaged or no ONNX model"
    yield "no-graph", field(1, 9), "not an ONNX model"
    yield "two-graphs", whole + field(7, b""), "two graphs"
    yield "graph-a-number", field(7, 1), "expected a message"
    yield "cut-in-half", whole[: len(whole) // 2], "longer than what holds it"
    yield "cut-last-byte", whole[:-1], "longer than what holds it"
    yield "length-2^63", varint(7 << 3 | 2) + varint(1 << 63), "longer than what holds it"
    yield (
        "inner-length-beyond-outer",
        field(7, varint(1 << 3 | 2) + varint(100)) + field(900, bytes(200)),
        "longer than",
    )
    yield "endless-number", b"\x08" + b"\xff" * 20, "more than 64 bits"
    yield "number-cut", b"\x08\xff", "inside a number"
    yield "wire-type-group", b"\x0b", "unknown wire type"
    yield "field-0", b"\x02\x00", "field's number"
    yield "field-2^32", varint(1 << 35) + b"\0", "field's number"
    yield "name-not-utf-8", decoder(nodes=field(1, field(3, b"\xff\xfe") + field(4, "Add"))), "not UTF-8"
    yield "name-of-1-MB", decoder(nodes=field(1, field(3, "n" * (1 << 20)))), "too long"
    yield "graphs-in-graphs", decoder(nodes=graphs(9)), "nested too deep"
    yield "graphs-200-deep", decoder(nodes=graphs(200)), "nested too deep"
    yield "node-without-operator", decoder(nodes=field(1, b"")), "no operator"
    yield "edges", decoder(nodes=field(1, field(1, "") * 5000)), "too many edges"
    # what a tensor says of itself
    yield "dimension-negative", added(tensor("w", [-1], raw=b"")), "shape is unusable"
    yield "dimension-2^62", added(tensor("w", [1 << 62], raw=b"")), "shape is unusable"
    yield "product-that-wraps", added(tensor("w", [1 << 33, 1 << 31], raw=b"")), "shape is unusable"
    yield "nine-dimensions", added(tensor("w", [1] * 9)), "too many dimensions"
    yield "dimensions-of-1-MB", added(field(1, b"\x01" * (1 << 20))), "too long"
    yield "data-too-short", added(tensor("w", [4], raw=bytes(15))), "doesn't fit its data"
    yield "data-too-long", added(tensor("w", [4], raw=bytes(17))), "doesn't fit its data"
    yield "data-twice", added(tensor("w", [1]) + field(9, bytes(4))), "given twice"
    yield "type-unknown", added(tensor("w", [1], kind=99)), "type is unknown"
    yield "type-negative", added(tensor("w", [1], kind=-1)), "type is unknown"
    yield "location-unknown", added(tensor("w", [1]) + field(14, 2)), "location 0 or 1"
    yield "tensor-twice", model(field(5, tensor("a", [1])) * 2), "appears twice"
    yield "sparse", decoder(initializers=field(15, b"")), "sparse"
    # external data
    outside = "outside the model's folder"
    yield "external-parent", placed(location="../weights"), outside
    yield "external-deep-parent", placed(location="a/../../weights"), outside
    yield "external-absolute", placed(location="/etc/passwd"), outside
    yield "external-drive", placed(location="C:weights"), outside
    yield "external-backslash", placed(location="..\\weights"), outside
    yield "external-url", placed(location="file:///etc/passwd"), outside
    yield "external-nul", placed(location="weights\0"), outside
    yield "external-empty", placed(location=""), outside
    yield "external-no-location", placed(offset="0"), outside
    yield "external-folder", placed(location="."), "a regular file"
    yield "external-missing", placed(location="not-there.data"), "external data"
    here = {"location": DATA}
    yield "external-offset-negative", placed(**here, offset="-1"), "a whole number"
    yield "external-offset-text", placed(**here, offset="0x10"), "a whole number"
    yield "external-offset-fraction", placed(**here, offset="1.5"), "a whole number"
    yield "external-offset-huge", placed(**here, offset="9" * 19), "outside its file"
    yield "external-offset-longer", placed(**here, offset="9" * 4000), "a whole number"
    yield "external-offset-past-the-end", placed(**here, offset="100000"), "outside its file"
    yield "external-length-negative", placed(**here, length="-16"), "a whole number"
    yield "external-length-of-another-shape", placed(**here, length="12"), "doesn't fit its data"
    yield "external-larger-than-its-file", added(tensor("w", [1 << 30], external=here)), "outside its file"
    yield "external-and-raw", added(tensor("w", [4], external=here) + field(9, bytes(16))), "given twice"
    two = field(5, tensor("a", [4], external={**here, "offset": "0"})) + field(
        5, tensor("b", [4], external={**here, "offset": "8"})
    )
    yield "external-overlap", decoder(initializers=two), "overlaps"
    # graphs that aren't decoders
    yield "operator-unknown", decoder(nodes=field(1, node("Steal", ["x"], "y"))), "'Steal' x 1"
    yield (
        "operator-of-another-domain",
        decoder(nodes=field(1, node("MatMul", [], "y", domain="evil"))),
        "evil",
    )
    yield "operator-quantized", decoder(nodes=field(1, node("MatMulNBits", [], "y"))), "quantized already"
    yield "functions", decoder(extra=field(25, b"")), "functions"
    circle = field(1, node("Identity", ["b"], "a")) + field(1, node("Identity", ["a"], "b"))
    circle += field(1, node("MatMul", ["x", "a"], "y", "/model/layers.0/self_attn/q_proj/MatMul"))
    missing = decoder(nodes=circle).replace(b"q_proj.weight", b"q_prop.weight")
    yield "circle", missing, "no layer"
    stranger = field(5, tensor("other", [2, 2])) + field(1, node("MatMul", ["x", "other"], "y"))
    yield "product-of-no-layer", decoder(nodes=stranger), "MatMul with other"
    another = tensor("model.layers.0.self_attn.q_proj.weight_2", [2, 2])
    second = node("MatMul", ["x", "model.layers.0.self_attn.q_proj.weight_2"], "y")
    yield "two-for-one", decoder(nodes=field(5, another) + field(1, second)), "the same of the model"
    yield "another-shape", decoder(parameters={**PARAMETERS, "ff_width": 4}), "doesn't fit the configuration"
    yield "more-layers", decoder(parameters={**PARAMETERS, "layers": 2}), "missing"
    yield "million-layers", decoder(parameters={**PARAMETERS, "layers": 10**6}), "layers"
    scaled = {**PARAMETERS, "rope_scaling": {"kind": "llama3", "factor": 1.0}}
    bare = field(5, field(1, 1) + field(2, FLOAT) + field(8, "rope_freqs.weight"))
    yield "frequencies-without-data", decoder(initializers=bare, parameters=scaled), "rope_freqs.weight"
    yield "frequencies-missing", decoder(parameters=scaled), "rope_freqs.weight"
    yield (
        "scaling-unknown",
        decoder(parameters={**PARAMETERS, "rope_scaling": {"kind": "x", "factor": 2}}),
        "'x'",
    )
    yield "scaling-of-other-keys", decoder(parameters={**scaled, "rope_scaling": {"kind": 1}}), "unusable"
    yield "no-configuration", decoder(parameters=None), "config.json"
    yield "configuration-a-list", decoder(parameters=[1]), "not a JSON object"
    yield "configuration-of-other-keys", decoder(parameters={"__class__": 1}), "hyper-parameters"
    yield (
        "architecture-unknown",
        decoder(parameters={**PARAMETERS, "architecture": "gpt2"}),
        "hyper-parameters",
    )
    vocabulary = field(14, pair("ruvq.tokenizer", json.dumps({"general.name": ["string", "x"]})))
    yield "vocabulary-of-other-keys", decoder(extra=vocabulary), "a key of a tokenizer"


def accepted() -> Iterator[tuple[str, bytes]]:
    yield "smallest", decoder()
    yield (
        "unknown-fields",
        decoder(extra=field(900, 1) + field(901, b"xyz") + varint(902 << 3 | 5) + bytes(4)),
    )
    yield "fields-in-another-order", field(14, pair("k", "v")) + decoder()
    yield "external", placed(location=DATA, offset="0", length="16")
    yield "external-without-length", placed(location=DATA)
    yield (
        "external-shared",
        decoder(
            initializers=b"".join(
                field(5, tensor(n, [4], external={"location": DATA, "offset": "8"})) for n in "ab"
            )
        ),
    )
    yield "empty-tensor", added(tensor("none", [0, 3]))
    yield "integers", added(tensor("i", [2], kind=7, raw=bytes(16)))
    yield "graphs-in-graphs", decoder(nodes=graphs(8))
    yield (
        "packed-dimensions",
        added(field(1, b"\x02\x03") + field(2, FLOAT) + field(8, "p") + field(9, bytes(24))),
    )
    yield "long-chain-of-copies", decoder(nodes=chain(1000))


def onnx() -> Iterator[Case]:
    for name, data, says in hostile():
        yield Case(f"onnx-{name}", 21, data, "", says, "onnx", hosts=READERS)
    for name, data in accepted():
        yield Case(f"ok-onnx-{name}", 0, data, None, stage="onnx", hosts=READERS)


GENERATORS = (onnx,)
