"""What the tensors of an ONNX graph are in a llama-like decoder, and how each is stored.

How a tensor is used says what it can be: the table of a Gather, the right side of a MatMul, the gain of an
RMS norm, what is added to a product. Which layer and projection it belongs to is taken from the names that
exporters leave: the node's, its output's, the module's in torch's metadata, or, where an optimizer of graphs
renamed those, the tensor's. The node's come first: equal tensors may be stored once, under the name of one of
them. Where no product has such a name, the order of the products decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..errors import ModelError
from .llama import LlamaParameters
from .onnx_file import Node, OnnxFile
from .onnx_names import module_of, node_names, product_module
from .onnx_tensor import OnnxTensor

# Everything a decoder of the kinds ruvq converts is written with; other operators are another architecture's.
_PLUMBING = """And Cast CastLike Concat Constant ConstantOfShape Cos CumSum Div Einsum Equal Expand Flatten
Gather GatherElements GatherND Greater GreaterOrEqual Identity If IsNaN Less LessOrEqual Max Min Mod Neg Not
Or Pow Range Reciprocal ReduceMax ReduceMean ReduceSum Reshape ScatterElements ScatterND Shape Sin Size Slice
Softmax Split Sqrt Squeeze Sub Tile Transpose Trilu Unsqueeze Where com.microsoft.GatherND Add
Attention RotaryEmbedding com.microsoft.RotaryEmbedding com.microsoft.MultiHeadAttention
com.microsoft.GroupQueryAttention"""
_ACTIVATIONS = ("Sigmoid", "Swish", "com.microsoft.QuickGelu")
_NORMS = {  # the operator, and which of its inputs is the gain
    "Mul": None,
    "RMSNormalization": 1,
    "SimplifiedLayerNormalization": 1,
    "com.microsoft.SimplifiedLayerNormalization": 1,
    "com.microsoft.SkipSimplifiedLayerNormalization": 2,
}
_PRODUCTS = ("MatMul", "Gemm", "com.microsoft.FusedMatMul")
_KNOWN = {*_PLUMBING.split(), *_ACTIVATIONS, *_NORMS, *_PRODUCTS}
_QUANTIZED = re.compile(
    r"(?i)(?:^|\.)(?:\w*NBits|\w*Bnb4|\w*Integer|\w*Quantize\w*|\w*Quantized\w*|QLinear\w*)$"
)

_ORDER = (("attn_q", "attn_k", "attn_v"), ("attn_output",), ("ffn_gate", "ffn_up"), ("ffn_down",))
_MOST_STEPS = 16  # from a product's input back to the tensor
_SHOWN = 8  # names in a message


@dataclass(frozen=True)
class Place:
    """Where a matrix or vector lies: rows [first, first + rows) of a tensor, or its columns if `columns`."""

    tensor: OnnxTensor
    columns: bool = False
    first: int = 0
    rows: int | None = None  # None: all

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, width) as GGUF counts, or (width,)."""
        shape = self.tensor.shape[::-1] if self.columns else self.tensor.shape
        return shape if self.rows is None else (self.rows, *shape[1:])


@dataclass(frozen=True)
class _Use:
    """A tensor where a node takes it."""

    node: Node
    place: Place
    names: tuple[str, ...]  # best first


def recognise(file: OnnxFile, parameters: LlamaParameters) -> tuple[dict[str, Place], list[str]]:
    """GGUF name -> place of every tensor that is recognised, and notes for the user.

    ModelError for operators of other architectures, for quantized weights, and for products whose weights
    belong nowhere, each listed."""
    _check_operators(file)
    graph = _Graph(file)
    products = list(graph.products())
    targets = [product_module(use.names) for use in products]
    notes = []
    if not any(t for t in targets if t and t.startswith("blk.")):
        targets = _by_order(products, graph, parameters)
        notes.append("the weights' names say nothing: their order in the graph decided")
    strangers = [use for use, target in zip(products, targets, strict=True) if target is None]
    if strangers:
        raise _refuse(
            "products of the graph belong to no layer that ruvq knows",
            "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj of a layer, or lm_head",
            _listed([f"{use.node.name or use.node.op} with {use.place.tensor.name}" for use in strangers]),
        )
    found: dict[str, Place] = {}
    biased: dict[str, str] = {}  # output of a product -> its target
    for use, target in zip(products, targets, strict=True):
        assert target is not None
        _add(found, target, ".weight", use.place, parameters)
        biased |= dict.fromkeys(use.node.outputs[:1], target)
    for place, target in graph.biases(biased):
        _add(found, target, ".bias", place, parameters)
    table = (parameters.vocab_size, parameters.width)
    for place in graph.tables():
        if place.shape == table:
            _add(found, "token_embd", ".weight", place, parameters)
    _add_norms(found, list(graph.norms()), parameters, named=not notes)
    factors = graph.place("rope_freqs.weight")  # of our own export
    if factors is not None:
        found["rope_freqs.weight"] = factors[0]
    return found, notes


class _Graph:
    """The nodes of a file, followed from use to tensor."""

    def __init__(self, file: OnnxFile) -> None:
        self.file = file
        self._makers = {out: node for node in file.nodes for out in node.outputs}
        self._activated = {value for node in file.nodes if node.op in _ACTIVATIONS for value in node.inputs}

    def place(self, name: str) -> tuple[Place, list[str]] | None:
        """The float tensor behind a value, through copies, casts and transpositions, with all its names."""
        names, turned = [name], False
        while name not in self.file.tensors:
            node = self._makers.get(name)
            if node is None or node.op not in ("Identity", "Cast", "Transpose") or not node.inputs:
                return None
            if node.op == "Transpose":
                if node.lists.get("perm", [1, 0]) != [1, 0]:
                    return None
                turned = not turned
            name = node.inputs[0]
            names.append(name)
            if len(names) > _MOST_STEPS:  # perhaps in circles
                return None
        tensor = self.file.tensors[name]
        if tensor.dtype is None or tensor.start is None or (turned and len(tensor.shape) != 2):
            return None
        return Place(tensor, columns=turned), names

    def products(self) -> Iterator[_Use]:
        """Products with a weight matrix, in the order of the graph."""
        for node in self.file.nodes:
            if node.op not in _PRODUCTS or len(node.inputs) < 2:
                continue
            known = self.place(node.inputs[1])
            if known is None or len(known[0].tensor.shape) != 2:
                continue
            place, names = known
            if any(node.numbers.get(key, 1.0) != 1.0 for key in ("alpha", "beta")) or node.numbers.get(
                "transA"
            ):
                raise _refuse(
                    "a product is scaled or transposed in a way that isn't known",
                    "alpha and beta 1, transA 0",
                    node.name or place.tensor.name,
                )
            if not node.numbers.get("transB"):  # stored (width, rows), as x @ w wants it
                place = replace(place, columns=not place.columns)
            yield _Use(node, place, (*node_names(node), *names))

    def biases(self, products: dict[str, str]) -> Iterator[tuple[Place, str]]:
        """Vectors that are added to a product, with its target."""
        for node in self.file.nodes:
            if (
                node.op == "Gemm"
                and len(node.inputs) > 2
                and node.outputs[:1]
                and node.outputs[0] in products
            ):
                known = self.place(node.inputs[2])
                if known is not None:
                    yield known[0], products[node.outputs[0]]
            if node.op != "Add" or len(node.inputs) != 2:
                continue
            for value, product in (node.inputs, node.inputs[::-1]):
                known = self.place(value)
                if product in products and known is not None and len(known[0].shape) == 1:
                    yield known[0], products[product]

    def tables(self) -> Iterator[Place]:
        """What Gather takes rows of."""
        for node in self.file.nodes:
            if node.op == "Gather" and node.inputs and not node.numbers.get("axis"):
                known = self.place(node.inputs[0])
                if known is not None and not known[0].columns:
                    yield known[0]

    def norms(self) -> Iterator[_Use]:
        """Gains of norms, in the order of the graph."""
        for node in self.file.nodes:
            if node.op not in _NORMS:
                continue
            at = _NORMS[node.op]
            for value in node.inputs if at is None else node.inputs[at : at + 1]:
                known = self.place(value)
                if known is not None and len(known[0].shape) == 1 and known[0].shape != (1,):
                    yield _Use(node, known[0], (*node_names(node), *known[1]))

    def feeds_activation(self, value: str) -> bool:
        """Whether a value goes into a SiLU."""
        return value in self._activated


def _check_operators(file: OnnxFile) -> None:
    ops: dict[str, int] = {}
    for node in file.nodes:
        ops[node.op] = ops.get(node.op, 0) + 1
    quantized = [op for op in ops if _QUANTIZED.search(op)]
    if quantized:
        raise _refuse(
            "the weights are quantized already",
            "float weights in MatMul or Gemm",
            _listed([f"{op} x {ops[op]}" for op in quantized]),
            "export the model in f32 or f16 and start from that",
        )
    unknown = [op for op in ops if op not in _KNOWN]
    if unknown:
        raise _refuse(
            "the graph has operators that no decoder of a known kind needs",
            "a llama, mistral, qwen2 or qwen3 decoder",
            _listed([f"{op[:60]!r} x {ops[op]}" for op in unknown]),
        )
    if file.functions:
        raise _refuse("the model defines functions", "one flat graph", f"{file.functions} functions",
                      "inline them first, with onnx.inliner")  # fmt: skip


def _by_order(products: list[_Use], graph: _Graph, parameters: LlamaParameters) -> list[str | None]:
    """Targets of products without names: q, k and v share an input, then o; gate and up share one, then down;
    at the end the output. None throughout where the graph is built otherwise."""
    groups: list[list[_Use]] = []
    for use in products:
        if groups and groups[-1][0].node.inputs[0] == use.node.inputs[0]:
            groups[-1].append(use)
        else:
            groups.append([use])
    nothing: list[str | None] = [None] * len(products)
    wanted = [names for _ in range(parameters.layers) for names in _ORDER]
    if [len(g) for g in groups] != [*(len(names) for names in wanted), 1]:
        return nothing
    out: list[str | None] = []
    for number, (group, names) in enumerate(zip(groups, wanted, strict=False)):
        if len(names) == 2:  # gate is the one that is activated
            first, second = (graph.feeds_activation(use.node.outputs[0]) for use in group)
            if first == second:
                return nothing
            names = names if first else names[::-1]
        out += [f"blk.{number // len(_ORDER)}.{name}" for name in names]
    return [*out, "output"]


def _add_norms(found: dict[str, Place], uses: list[_Use], parameters: LlamaParameters, named: bool) -> None:
    """The gains by their names, or where products had none by their order."""
    if named:
        for use in uses:
            module = next((m for m in map(module_of, use.names) if m and m.endswith("_norm")), None)
            if module:
                _add(found, module, ".weight", use.place, parameters)
        return
    layer = ["attn_norm", *(["attn_q_norm", "attn_k_norm"] if parameters.kind.head_norms else []), "ffn_norm"]
    wanted = [f"blk.{i}.{name}" for i in range(parameters.layers) for name in layer] + ["output_norm"]
    gains = {(parameters.width,)} | ({(parameters.head_width,)} if parameters.kind.head_norms else set())
    uses = [use for use in uses if use.place.shape in gains]
    if len(uses) != len(wanted):
        raise _refuse("the norms of the graph aren't those of the model", str(len(wanted)), str(len(uses)))
    for use, target in zip(uses, wanted, strict=True):
        _add(found, target, ".weight", use.place, parameters)


def _add(
    found: dict[str, Place], target: str, suffix: str, place: Place, parameters: LlamaParameters
) -> None:
    """Adds a place, or the parts of a joined one. ModelError when another tensor has the name already."""
    parts = target.split("+")
    if len(parts) == 1:
        places = [place]
    else:
        shapes = parameters.shapes()
        rows = [shapes.get(part + ".weight", (0,))[0] for part in parts]
        if sum(rows) != place.shape[0]:
            raise _refuse(
                "a joined projection doesn't fit the configuration",
                f"{' + '.join(map(str, rows))} rows",
                f"{place.shape[0]} in {place.tensor.name}",
            )
        firsts = [sum(rows[:i]) for i in range(len(rows))]
        places = [replace(place, first=f, rows=r) for f, r in zip(firsts, rows, strict=True)]
    for part, piece in zip(parts, places, strict=True):
        other = found.setdefault(part + suffix, piece)
        same = (other.tensor.path, other.tensor.start) == (piece.tensor.path, piece.tensor.start)
        if not same or (other.columns, other.first, other.rows) != (piece.columns, piece.first, piece.rows):
            raise _refuse(
                "two tensors of the graph are the same of the model",
                f"one {part}{suffix}",
                f"{other.tensor.name} and {piece.tensor.name}",
            )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(name[:120] for name in names[:_SHOWN]) + more


def _refuse(message: str, expected: str, actual: str, hint: str = "") -> ModelError:
    return ModelError(
        message,
        subject="the ONNX graph",
        expected=expected,
        actual=actual,
        hint=hint
        or "this isn't a decoder that ruvq converts; start from the Hugging Face folder if there is one",
    )
