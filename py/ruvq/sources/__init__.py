"""Float models from what people have: Hugging Face folders, safetensors, ONNX, GGUF, llama2.c checkpoints.

`open_source(path)` finds out what it is and gives a `Source`: hyper-parameters, tensors under GGUF's
names that are read a few rows at a time, and the tokenizer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import FileFormatError, MissingDependencyError, StorageError, UsageError
from .base import Source, TensorInfo
from .files import PieceFile, read_json
from .llama import LlamaParameters, RopeScaling
from .safetensors_file import describe_start

__all__ = ["LlamaParameters", "RopeScaling", "Source", "TensorInfo", "open_source"]

_KINDS = "a Hugging Face folder, a .safetensors file, a .onnx file, a .gguf file or a llama2.c .bin"


def open_source(
    path: str | Path,
    tokenizer: str | Path | None = None,
    config: str | Path | None = None,
    *,
    allow_requantize: bool = False,
) -> Source:
    """Opens a float model.

    `tokenizer`: a tokenizer.json, tokenizer.model, tok*.bin or a folder with one of them; by default what
    lies beside the weights. `config`: a config.json for a single safetensors or ONNX file.
    `allow_requantize`: a GGUF whose tensors are already quantized is decoded instead of refused.

    Raises StorageError, FileFormatError, ModelError or TokenizerError.
    """
    path = Path(path)
    if not path.exists():
        raise StorageError(
            "there is no such file or folder", subject=str(path), expected=_KINDS, actual="nothing"
        )
    if path.is_dir():
        return _open_folder(path, tokenizer, config)
    file = PieceFile(path)
    try:
        head = bytes(file.read(0, min(file.size, 16)))
        kind = _kind(file, head, path)
    finally:
        file.close()
    if kind == "gguf":
        from .gguf_source import open_gguf

        return open_gguf(path, tokenizer, allow_requantize=allow_requantize)
    if kind == "llama2.c":
        from .llama2c import open_llama2c

        return _with_tokenizer(open_llama2c(path, None), tokenizer, None)
    if kind == "onnx":
        return _open_onnx(path, tokenizer, config)
    return _open_safetensors(path, tokenizer, config)


def _kind(file: PieceFile, head: bytes, path: Path) -> str:
    from .llama2c import looks_like

    if head.startswith(b"GGUF"):
        return "gguf"
    if path.suffix == ".onnx":
        return "onnx"
    if path.suffix == ".safetensors" or (len(head) > 8 and head[8:9] == b"{" and head[6:8] == b"\0\0"):
        return "safetensors"
    if looks_like(file):
        return "llama2.c"
    raise FileFormatError(
        "not a model that ruvq can read",
        subject=str(path),
        expected=_KINDS,
        actual="an empty file" if not head else describe_start(head),
    )


def _open_folder(folder: Path, tokenizer: str | Path | None, config: str | Path | None) -> Source:
    from .huggingface import open_huggingface, weight_files

    config_path = Path(config) if config else folder / "config.json"
    if not config_path.is_file():
        raise StorageError(
            "not a Hugging Face model folder",
            subject=str(folder),
            expected="config.json beside the weights",
            actual=", ".join(sorted(p.name for p in folder.iterdir())[:5]) or "an empty folder",
        )
    settings = read_json(config_path)
    source = open_huggingface(
        weight_files(folder), settings, folder, None, folder.resolve().name, "Hugging Face folder"
    )
    return _with_tokenizer(source, tokenizer or folder, settings)


def _open_safetensors(path: Path, tokenizer: str | Path | None, config: str | Path | None) -> Source:
    from .huggingface import open_huggingface
    from .safetensors_file import SafetensorsFile

    SafetensorsFile(path).close()  # what is wrong with the file itself comes first
    config_path = Path(config) if config else path.parent / "config.json"
    if not config_path.is_file():
        raise UsageError(
            "a single safetensors file needs the model's configuration",
            subject=str(path),
            expected="config.json beside it, or --config FILE",
            actual="neither",
        )
    settings = read_json(config_path)
    source = open_huggingface([path], settings, path, None, path.stem, "safetensors file")
    return _with_tokenizer(source, tokenizer or path.parent, settings)


def _open_onnx(path: Path, tokenizer: str | Path | None, config: str | Path | None) -> Source:
    try:
        from .onnx_source import open_onnx
    except ImportError as error:  # the wheels for pages leave it out
        raise MissingDependencyError(
            "ONNX files are read on the desktop",
            subject=str(path),
            expected="ruvq for the desktop",
            actual="ruvq for pages",
            hint="convert the model there: ruvq quantize --input model.onnx --output model.gguf",
        ) from error

    source, settings = open_onnx(path, config)
    if source.tokenizer is not None and tokenizer is None:
        return source
    return _with_tokenizer(source, tokenizer or path.parent, settings)


def _with_tokenizer(source: Source, tokenizer: str | Path | None, config: dict[str, Any] | None) -> Source:
    """Adds the tokenizer found at `tokenizer`, checked against the model."""
    from .tokenizers import load_tokenizer

    try:
        if tokenizer is None:
            raise UsageError(
                "the model comes without a tokenizer",
                subject=str(source.path),
                expected="--tokenizer FILE (tok*.bin, tokenizer.model or tokenizer.json)",
                actual="none",
            )
        source.tokenizer = load_tokenizer(Path(tokenizer), source.parameters.vocab_size, config)
    except BaseException:
        source.close()
        raise
    return source
