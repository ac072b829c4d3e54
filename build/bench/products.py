"""Single products beside onnxruntime-web: its 4-bit MatMulNBits and its float32 MatMul, and ruvq's rq_matvec
of the same shape, interleaved in one worker of the same Chromium, one thread.

MatMulNBits runs with every accuracy level it documents for int4 on a CPU (0: as stored, 4: int8 products) and
the fastest is quoted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from page import in_browser
from peers import Peers
from random_models import random_rows
from ruvq import formats
from timing import summary

SHAPES = ((576, 1536), (2048, 2048))  # (width of the vector, rows)
OURS = ("pi-t2", "pi-t3", "ternary", "q8_0", "f32")
BLOCK = 32
LEVELS = (0, 4)


def _save(path: Path, node: Any, width: int, rows: int, weights: list[Any], domains: list[Any]) -> None:
    """A graph of one node: x (1, width) → y (1, rows)."""
    import onnx
    from onnx import TensorProto, helper

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, width])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, rows])
    graph = helper.make_graph([node], path.stem, [x], [y], weights)
    opsets = [helper.make_opsetid("", 17), *domains]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)


def write_graphs(folder: Path, width: int, rows: int) -> dict[str, Path]:
    """The graphs of one shape, with random weights: name → file."""
    from onnx import helper, numpy_helper

    rng = np.random.default_rng(1)
    paths = {"fp32 MatMul": folder / f"matmul-{width}x{rows}.onnx"}
    w = rng.standard_normal((width, rows), np.float32)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    _save(paths["fp32 MatMul"], node, width, rows, [numpy_helper.from_array(w, "w")], [])
    codes = rng.integers(0, 256, (rows, width // BLOCK, BLOCK // 2), np.uint8)
    scales = np.full(rows * (width // BLOCK), 0.01, np.float32)
    for level in LEVELS:
        name = f"MatMulNBits int4, accuracy level {level}"
        paths[name] = folder / f"nbits-{level}-{width}x{rows}.onnx"
        options: dict[str, Any] = {
            "K": width,
            "N": rows,
            "bits": 4,
            "block_size": BLOCK,
            "accuracy_level": level,
        }
        node = helper.make_node("MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", **options)
        weights = [numpy_helper.from_array(codes, "w"), numpy_helper.from_array(scales, "s")]
        _save(paths[name], node, width, rows, weights, [helper.make_opsetid("com.microsoft", 1)])
    return paths


def measure_products(page: Any, folder: Path, peers: Peers, rounds: int) -> dict[str, Any]:
    """Shape → {name: {us: {...}, weight_bytes}}; empty without onnxruntime-web."""
    report: dict[str, Any] = {}
    if peers.onnx is None:
        return report
    for width, rows in SHAPES:
        graphs = write_graphs(folder, width, rows)
        ours = []
        for name in OURS:
            path = folder / f"product-{name}-{rows}x{width}.bin"
            path.write_bytes(random_rows(name, rows, width, np.random.default_rng(1)).tobytes())
            ours.append({"name": f"ruvq {name}", "id": formats.get(name).id, "url": f"/files/{path.name}"})
        theirs = [{"name": f"onnxruntime-web {n}", "url": f"/files/{p.name}"} for n, p in graphs.items()]
        spec = {"base": "./peers/ort", "ours": ours, "graphs": theirs}
        times = in_browser(page, "products", width=width, rows=rows, rounds=rounds, **spec)
        sizes = {f"ruvq {name}": formats.get(name).row_bytes(width) * rows for name in OURS}
        sizes |= {f"onnxruntime-web {name}": width * rows * 9 // 16 + width * rows // 16 for name in graphs}
        sizes["onnxruntime-web fp32 MatMul"] = 4 * width * rows
        report[f"1x{width}x{rows}"] = {
            name: {
                "bits_per_weight": 8 * sizes[name] / (width * rows),
                "us": summary([1e6 * value for value in values]),
            }
            for name, values in times.items()
        }
    return report
