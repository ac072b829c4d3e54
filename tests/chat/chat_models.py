"""Small random models with real chat vocabularies: bytes, and the special tokens of ChatML."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from sources.tiny_models import TINY, random_weights, write_huggingface

CHATML = (Path(__file__).parent / "templates" / "chatml.jinja").read_text(encoding="utf-8")
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
PARAMETERS = replace(TINY, context=320)


def _byte_characters() -> list[str]:
    """The character that stands for each byte in byte-level vocabularies."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def tokenizer_json() -> dict[str, Any]:
    """Bytes 0 to 255, "th" and "the", a user-defined <think>, and ChatML's special tokens."""
    vocabulary = {character: byte for byte, character in enumerate(_byte_characters())}
    vocabulary |= {"th": 256, "the": 257}
    added = [{"id": 258, "content": "<think>", "special": False}]
    added += [{"id": 259 + i, "content": text, "special": True} for i, text in enumerate(SPECIAL)]
    return {
        "model": {"type": "BPE", "vocab": vocabulary, "merges": ["t h", "th e"]},
        "added_tokens": added,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
    }


def write_chat_model(folder: Path, template: Any = CHATML, **settings: Any) -> Path:
    """A Hugging Face folder; `template` None: without one."""
    write_huggingface(folder, random_weights(PARAMETERS), PARAMETERS)
    (folder / "tok.bin").unlink()
    config = {"bos_token": "<|im_start|>", "eos_token": "<|endoftext|>", **settings}
    if template is not None:
        config["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_json()))
    return folder


def quantized(folder: Path, target: Path, **options: Any) -> Path:
    """The model as a GGUF file."""
    import ruvq

    ruvq.quantize_model(folder, target, "f32", progress=False, overwrite=True, **options)
    return target
