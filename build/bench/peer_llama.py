"""llama.cpp through llama-cpp-python, in a process of its own so that its threads disturb no other figure.

    python build/bench/peer_llama.py version
    python build/bench/peer_llama.py quantize SOURCE.gguf TARGET.gguf Q4_K_M
    python build/bench/peer_llama.py run MODEL.gguf --threads 1 --prompt 128 --decode 64
    python build/bench/peer_llama.py encode WEIGHTS.f32 OUT.bin --type-id 12 --width 768 [--importance W.f32]
    python build/bench/peer_llama.py logits MODEL.gguf TOKENS.json OUT.f32

Each prints one JSON object. `quantize` is llama.cpp's own quantizer with its standard mixture of types, its
fall-backs for widths that are no multiple of 256 included. `run` computes one prompt in one batch and decodes
greedily after it with llama_decode, after a warm-up; flash attention is chosen by llama.cpp itself. `encode`
is ggml's quantizer of rows, one thread, with importance where it is given; `logits` writes every token's.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
import time
from pathlib import Path
from typing import Any

# llama.h's llama_ftype; only types that need no importance matrix
FILE_TYPES = {"Q4_0": 2, "Q8_0": 7, "Q2_K": 10, "Q3_K_M": 12, "Q4_K_M": 15, "TQ2_0": 37}


def library() -> Any:
    """llama_cpp's low-level module, quiet. ImportError where it is not installed."""
    import llama_cpp

    @llama_cpp.llama_log_callback
    def quiet(level: int, text: bytes, data: object) -> None:
        pass

    llama_cpp.quiet_callback = quiet  # kept alive as long as the library may call it
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    return llama_cpp


def version(lib: Any) -> dict[str, Any]:
    """Version of the package and what its build uses of the processor."""
    return {"version": lib.__version__, "features": lib.llama_print_system_info().decode().strip()}


def quantize(lib: Any, source: Path, target: Path, name: str, pure: bool = False) -> dict[str, Any]:
    """Writes `target` through a temporary name; `pure`: one type for all matrices, no mixture."""
    parameters = lib.llama_model_quantize_default_params()
    parameters.ftype = FILE_TYPES[name]
    parameters.nthread = 0  # all cores
    parameters.pure = pure
    part = target.with_name(target.name + ".part")
    code = lib.llama_model_quantize(bytes(source), bytes(part), ctypes.byref(parameters))
    if code:
        raise SystemExit(f"llama_model_quantize to {name} failed with code {code}")
    part.replace(target)
    return {"file_bytes": target.stat().st_size}


def run(lib: Any, path: Path, threads: int, prompt: int, decode: int) -> dict[str, float]:
    """Seconds to open, tokens per second of the prompt and of greedy decoding."""
    start = time.perf_counter()
    model = lib.llama_model_load_from_file(bytes(path), lib.llama_model_default_params())
    parameters = lib.llama_context_default_params()
    parameters.n_ctx = prompt + decode + 8
    parameters.n_batch = parameters.n_ubatch = max(prompt, 8)
    parameters.n_threads = parameters.n_threads_batch = threads
    context = lib.llama_init_from_model(model, parameters) if model else None
    if not context:
        raise SystemExit(f"llama.cpp could not open {path.name}")
    opened = time.perf_counter()
    vocab_size = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))

    def compute(tokens: list[int]) -> int:
        """Runs a batch; the best token after it."""
        array = (lib.llama_token * len(tokens))(*tokens)  # the batch only points to it
        code = lib.llama_decode(context, lib.llama_batch_get_one(array, len(tokens)))
        if code:
            raise SystemExit(f"llama_decode failed with code {code}")
        logits = lib.llama_get_logits_ith(context, -1)
        return int(np.ctypeslib.as_array(logits, (vocab_size,)).argmax())

    import numpy as np

    compute([2, 3, 4, 5])
    compute([6])
    lib.llama_memory_clear(lib.llama_get_memory(context), True)
    begun = time.perf_counter()
    token = compute([(i + 1) % vocab_size for i in range(prompt)])
    prompted = time.perf_counter()
    for _ in range(decode):
        token = compute([token])
    decoded = time.perf_counter()
    return {
        "open_s": opened - start,
        "prompt_tokens_per_s": prompt / (prompted - begun),
        "decode_tokens_per_s": decode / (decoded - prompted),
    }


def encode(lib: Any, options: argparse.Namespace) -> dict[str, float]:
    """Rows of float32 to the bytes of a ggml type."""
    import numpy as np

    folder = Path(lib.__file__).parent / "lib"
    base = ctypes.CDLL(str(next(folder.glob("libggml-base.*"))))
    rows = np.fromfile(options.weights, "<f4").reshape(-1, options.width)
    importance = np.fromfile(options.importance, "<f4") if options.importance else None
    base.ggml_row_size.restype = base.ggml_quantize_chunk.restype = ctypes.c_size_t
    base.ggml_row_size.argtypes = [ctypes.c_int, ctypes.c_int64]
    base.ggml_quantize_chunk.argtypes = [ctypes.c_int, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 3]
    base.ggml_quantize_chunk.argtypes += [ctypes.c_void_p]
    out = np.zeros(len(rows) * base.ggml_row_size(options.type_id, options.width), np.uint8)
    weigh = importance.ctypes.data if importance is not None else None
    base.ggml_quantize_init.argtypes = [ctypes.c_int]
    base.ggml_quantize_init(options.type_id)  # tables of the lattice formats, which are not the work
    begun = time.perf_counter()
    base.ggml_quantize_chunk(
        options.type_id, rows.ctypes.data, out.ctypes.data, 0, len(rows), options.width, weigh
    )
    spent = time.perf_counter() - begun
    out.tofile(options.out)
    return {"seconds": spent, "weights_per_s": rows.size / spent}


def logits(lib: Any, path: Path, tokens: list[int], out: Path) -> dict[str, int]:
    """float32 (tokens, vocabulary), of one context computed in one batch."""
    import numpy as np

    model = lib.llama_model_load_from_file(bytes(path), lib.llama_model_default_params())
    parameters = lib.llama_context_default_params()
    parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = len(tokens) + 8
    context = lib.llama_init_from_model(model, parameters) if model else None
    if not context:
        raise SystemExit(f"llama.cpp could not open {path.name}")
    batch = lib.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
        batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, i, 1
        batch.seq_id[i][0], batch.logits[i] = 0, 1
    code = lib.llama_decode(context, batch)
    if code:
        raise SystemExit(f"llama_decode failed with code {code}")
    vocab_size = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    rows = [
        np.ctypeslib.as_array(lib.llama_get_logits_ith(context, i), (vocab_size,)) for i in range(len(tokens))
    ]
    np.stack(rows).astype("<f4").tofile(out)
    return {"tokens": len(tokens), "vocab_size": vocab_size}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("version")
    quantizer = commands.add_parser("quantize")
    quantizer.add_argument("source", type=Path)
    quantizer.add_argument("target", type=Path)
    quantizer.add_argument("type", choices=FILE_TYPES)
    quantizer.add_argument("--pure", action="store_true")
    runner = commands.add_parser("run")
    runner.add_argument("model", type=Path)
    runner.add_argument("--threads", type=int, default=1)
    runner.add_argument("--prompt", type=int, default=128)
    runner.add_argument("--decode", type=int, default=64)
    encoder = commands.add_parser("encode")
    encoder.add_argument("weights", type=Path)
    encoder.add_argument("out", type=Path)
    encoder.add_argument("--type-id", type=int, required=True)
    encoder.add_argument("--width", type=int, required=True)
    encoder.add_argument("--importance", type=Path)
    reader = commands.add_parser("logits")
    reader.add_argument("model", type=Path)
    reader.add_argument("tokens", type=Path)
    reader.add_argument("out", type=Path)
    options = parser.parse_args()
    lib = library()
    if options.command == "version":
        result: dict[str, Any] = version(lib)
    elif options.command == "quantize":
        result = quantize(lib, options.source, options.target, options.type, options.pure)
    elif options.command == "encode":
        result = encode(lib, options)
    elif options.command == "logits":
        result = logits(lib, options.model, json.loads(options.tokens.read_text()), options.out)
    else:
        result = run(lib, options.model, options.threads, options.prompt, options.decode)
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
