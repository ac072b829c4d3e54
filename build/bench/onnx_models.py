"""Whole models in onnxruntime-web: a shape's random model, exported by ruvq itself to MatMulNBits int4 with a
KV cache (docs/onnx.md): plain norms, onnxruntime's own fused attention, logits for every token of a prompt.

MatMulNBits runs with both accuracy levels that it documents for int4 on a CPU (0: as stored, 4: int8
products) and is listed with each.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from peers import Peers, own_file
from ruvq.export import export_onnx
from ruvq.sources import LlamaParameters
from ruvq.sources.onnx_file import OnnxFile
from ruvq.sources.onnx_source import PARAMETERS_KEY

LEVELS = (0, 4)


def onnx_files(folder: Path, shape: str, peers: Peers) -> dict[str, Path]:
    """Name → file, made once; empty without onnxruntime-web."""
    files = {}
    for level in LEVELS if peers.onnx else ():
        path = folder / f"random-{shape}-int4-{level}.onnx"
        if not path.exists():
            source = own_file(folder, shape, "f16")
            export_onnx(source, path, "matmulnbits", cache=True, accuracy_level=level, external=False)
        files[f"int4 level {level}"] = path
    return files


def _parameters(path: Path) -> LlamaParameters:
    file = OnnxFile(path)
    try:
        return LlamaParameters(**json.loads(file.metadata(PARAMETERS_KEY) or b"{}"))
    finally:
        file.close()


def onnx_facts(path: Path) -> dict[str, Any]:
    """What `peers.file_facts` says of a GGUF file, as far as it is known."""
    weights = sum(math.prod(shape) for shape in _parameters(path).shapes().values())
    nbytes = path.stat().st_size
    return {"file_bytes": nbytes, "weights": weights, "bits_per_weight": 8 * nbytes / weights}


def onnx_spec(path: Path) -> dict[str, Any]:
    """What the page must know of the model."""
    parameters = _parameters(path)
    return {"base": "./peers/ort", "kvHeads": parameters.kv_heads, "headWidth": parameters.head_width}
