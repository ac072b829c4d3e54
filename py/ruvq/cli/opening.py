"""Opening a model for the commands that run one: checks first, then options."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..core.abi import CONSTANTS
from .console import whole
from .files import check_memory, existing_gguf

if TYPE_CHECKING:
    from ..gguf import GGUFFile
    from ..runtime.model import Model

FLOATS = ("f32", "f16", "bf16")


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """The file and the flags that decide how it is opened."""
    parser.add_argument("file", help="a GGUF file on this machine")
    parser.add_argument(
        "--kv", default="auto", choices=("auto", "f16", "f32"),
        help="numbers of the KV cache (auto: f32 where all weights are floats, otherwise f16)",
    )  # fmt: skip
    parser.add_argument(
        "--context", type=whole(2, 1 << 24), help="tokens of context (default: the model's, 4096 at most)"
    )
    parser.add_argument(
        "--adapter", action="append", default=[], metavar="FILE[:SCALE]",
        help="a LoRA adapter (GGUF) beside the model, and what it is multiplied by (default 1); repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--threads", type=whole(1, CONSTANTS["RQ_MAX_THREADS"]),
        help="threads that compute; they don't change the result (default: the physical cores, 8 at most)",
    )  # fmt: skip


def choose_kv(file: GGUFFile, kv: str) -> str:
    """What `auto` stands for: a float model is run as exactly as it can be."""
    if kv != "auto":
        return kv
    return "f32" if all(t.format in FLOATS for t in file.tensors) else "f16"


def open_model(args: argparse.Namespace, *, hashes: bool = False) -> tuple[Model, str]:
    """The model and its kind of KV cache. MemoryLimitError before anything large is touched."""
    from ..gguf import GGUFFile
    from ..runtime.model import Model

    path = existing_gguf(args.file)
    with GGUFFile.open(path) as file:
        kv = choose_kv(file, args.kv)
        check_memory(path, _memory_of(file, args.context, kv, args.threads))
    model = Model.open(path, context=args.context, kv=kv, hashes=hashes, threads=args.threads)
    try:
        for adapter in args.adapter:
            file, scale = adapter_of(adapter)
            model.load_adapter(existing_gguf(file), scale)
    except BaseException:
        model.close()
        raise
    return model, kv


def adapter_of(text: str) -> tuple[str, float]:
    """File and scale of FILE[:SCALE]; a colon that no number follows belongs to the name."""
    file, colon, scale = text.rpartition(":")
    if colon:
        try:
            return file, float(scale)
        except ValueError:
            pass
    return text, 1.0


def _memory_of(file: GGUFFile, context: int | None, kv: str, threads: int | None) -> int:
    """Bytes that the engine takes beside the file: KV cache, activations, tables."""
    from .. import core
    from ..core import structs
    from ..runtime.threads import choose

    backend = core.get()
    flags = CONSTANTS["RQ_MODEL_KV_F32"] if kv == "f32" else 0
    options = structs.pack(
        "rq_model_options",
        context_tokens=context or 0,
        flags=flags | CONSTANTS["RQ_MODEL_ALL_LOGITS"],
        threads=choose(threads, backend.host),
    )
    with backend.alloc(len(options)) as given, backend.alloc(8) as out:
        backend.write(given.address, options)
        backend.call("rq_model_measure", file.index_address, file.data_address, given.address, out.address)
        return int.from_bytes(backend.read(out.address, 8), "little")
