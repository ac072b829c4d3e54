"""Fuzzing of the readers that are Python; guided.py says how.

    python tests/fuzz/fuzz_readers.py [-max_total_time=60] [-runs=100000]

Any bytes as a safetensors file, an ONNX file, a tokenizer of each kind, config.json, a llama2.c checkpoint,
a GGUF source, and a LoRA adapter in GGUF or as either file of PEFT's folder: each must give a reader, or a
RuvqError that says what was expected. The first byte chooses the reader; the start corpus is one right file
for each. A finding is any other exception, 10 s or 2 GB.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from guided import fuzz, instrumented

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

with instrumented("ruvq.sources", "ruvq.json_text", "ruvq.gguf", "ruvq.adapters"):
    from ruvq.adapters.gguf_adapter import read_gguf
    from ruvq.adapters.peft_folder import CONFIG, WEIGHTS, read_folder
    from ruvq.errors import RuvqError
    from ruvq.gguf import inspect
    from ruvq.sources import open_source
    from ruvq.sources.files import parse_json_object
    from ruvq.sources.huggingface import parameters_from_config
    from ruvq.sources.onnx_source import open_onnx
    from ruvq.sources.safetensors_file import SafetensorsFile
    from ruvq.sources.tokenizers import load_tokenizer

from attacks.build_gguf import llama, lora  # noqa: E402
from attacks.onnx_files import decoder as onnx_decoder  # noqa: E402
from sources.tiny_models import (  # noqa: E402
    hf_config,
    hf_tensors,
    llama2c_bytes,
    random_weights,
    safetensors_bytes,
    write_tokenizer,
)

FOLDER = Path(tempfile.mkdtemp(prefix="ruvq-fuzz-"))
TOKENIZER = write_tokenizer(FOLDER / "right-tok.bin")
TOKENIZER_JSON = {
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"], "unk_token": None},
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
    "added_tokens": [{"id": 3, "content": "<|end|>", "special": True}],
}
LORA_CONFIG = {
    "peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["k_proj"], "use_rslora": False,
    "rank_pattern": {}, "alpha_pattern": {"k_proj": 8}, "bias": "none", "base_model_name_or_path": "m",
}  # fmt: skip
LAYER = "base_model.model.model.layers.0.self_attn.k_proj"
PEFT = {
    CONFIG: json.dumps(LORA_CONFIG).encode(),
    WEIGHTS: safetensors_bytes(
        {f"{LAYER}.lora_A.weight": np.ones((2, 16)), f"{LAYER}.lora_B.weight": np.ones((8, 2))}
    ),
}


def _file(name: str, data: bytes) -> Path:
    path = FOLDER / name
    path.write_bytes(data)
    return path


def _source(path: Path) -> None:
    open_source(path, TOKENIZER).close()


def _peft(name: str, data: bytes) -> None:
    """PEFT's folder with one of its files replaced."""
    folder = FOLDER / "peft"
    folder.mkdir(exist_ok=True)
    for right, content in PEFT.items():
        (folder / right).write_bytes(data if right == name else content)
    read_folder(folder)


READERS: list[tuple[Callable[[bytes], object], Callable[[], bytes]]] = [
    (
        lambda data: SafetensorsFile(_file("x.safetensors", data)).close(),
        lambda: safetensors_bytes(hf_tensors(random_weights()))[:4000],
    ),
    (
        lambda data: load_tokenizer(_file("tokenizer.json", data)),
        lambda: json.dumps(TOKENIZER_JSON).encode(),
    ),
    (lambda data: load_tokenizer(_file("tok.bin", data)), lambda: TOKENIZER.read_bytes()),
    (
        lambda data: load_tokenizer(_file("tokenizer.model", data)),
        lambda: b"\n\x0e\n\x05<unk>\x15\0\0\0\0\x18\x02",
    ),
    (
        lambda data: parameters_from_config(parse_json_object(data, "config.json")),
        lambda: json.dumps(hf_config()).encode(),
    ),
    (lambda data: _source(_file("model.bin", data)), lambda: llama2c_bytes(random_weights())[:2000]),
    (lambda data: open_onnx(_file("model.onnx", data), None)[0].close(), onnx_decoder),
    (lambda data: _source(_file("model.gguf", data)), lambda: llama()[:4000]),
    (inspect, lambda: llama()[:4000]),
    (lambda data: read_gguf(_file("adapter.gguf", data)), lora),
    (lambda data: _peft(CONFIG, data), lambda: PEFT[CONFIG]),
    (lambda data: _peft(WEIGHTS, data), lambda: PEFT[WEIGHTS]),
]


def one_input(data: bytes) -> None:
    """A finding is what it raises."""
    if not data:
        return
    read, _ = READERS[data[0] % len(READERS)]
    try:
        read(data[1:])
    except RuvqError as error:
        if not (error.expected or error.hint):
            raise RuntimeError("a refusal without what was expected") from error


if __name__ == "__main__":
    fuzz(one_input, [bytes([number]) + right() for number, (_, right) in enumerate(READERS)], FOLDER)
