"""Class 14: hyper-parameters and tensors that make no model."""

from __future__ import annotations

from collections.abc import Iterator

from attacks.build_gguf import (
    F32,
    F64,
    I32,
    QWEN2_TENSORS,
    QWEN3_TENSORS,
    STRING,
    U32,
    U64,
    array,
    llama,
    llama_vocabulary,
    text,
)
from attacks.case import Case


def hyperparameters() -> Iterator[Case]:
    p = "llama."
    bad: dict[str, tuple[str, tuple[int, object] | None, str]] = {
        "block-count-0": ("block_count", (U32, 0), "RQ_E_HYPERPARAMETER"),
        "block-count-513": ("block_count", (U32, 513), "RQ_E_HYPERPARAMETER"),
        "block-count-max": ("block_count", (U32, 2**32 - 1), "RQ_E_HYPERPARAMETER"),
        "block-count-u64": ("block_count", (U64, 2**32 + 1), "RQ_E_VALUE"),
        "block-count-string": ("block_count", (STRING, "1"), "RQ_E_VALUE"),
        "block-count-float": ("block_count", (F32, 1.0), "RQ_E_VALUE"),
        "block-count-missing": ("block_count", None, "RQ_E_HYPERPARAMETER"),
        "block-count-2": ("block_count", (U32, 2), "RQ_E_TENSOR"),
        "heads-0": ("attention.head_count", (U32, 0), "RQ_E_HYPERPARAMETER"),
        "heads-5": ("attention.head_count", (U32, 5), "RQ_E_HYPERPARAMETER"),
        "heads-negative": ("attention.head_count", (I32, -4), "RQ_E_VALUE"),
        "kv-heads-0": ("attention.head_count_kv", (U32, 0), "RQ_E_HYPERPARAMETER"),
        "kv-heads-3": ("attention.head_count_kv", (U32, 3), "RQ_E_HYPERPARAMETER"),
        "rope-above-head": ("rope.dimension_count", (U32, 10), "RQ_E_HYPERPARAMETER"),
        "rope-odd": ("rope.dimension_count", (U32, 7), "RQ_E_HYPERPARAMETER"),
        "context-0": ("context_length", (U32, 0), "RQ_E_HYPERPARAMETER"),
        "context-2^31": ("context_length", (U32, 2**31), "RQ_E_HYPERPARAMETER"),
        "width-0": ("embedding_length", (U32, 0), "RQ_E_HYPERPARAMETER"),
        "width-other": ("embedding_length", (U32, 64), "RQ_E_TENSOR"),
        "ff-0": ("feed_forward_length", (U32, 0), "RQ_E_HYPERPARAMETER"),
        "ff-other": ("feed_forward_length", (U32, 96), "RQ_E_TENSOR"),
        "epsilon-0": ("attention.layer_norm_rms_epsilon", (F32, 0.0), "RQ_E_HYPERPARAMETER"),
        "epsilon-nan": ("attention.layer_norm_rms_epsilon", (F32, float("nan")), "RQ_E_VALUE"),
        "epsilon-infinite": ("attention.layer_norm_rms_epsilon", (F64, 1e300), "RQ_E_VALUE"),
        "rope-base-0": ("rope.freq_base", (F32, 0.0), "RQ_E_HYPERPARAMETER"),
        "rope-base-negative": ("rope.freq_base", (F32, -1.0), "RQ_E_HYPERPARAMETER"),
        "experts": ("expert_count", (U32, 8), "RQ_E_HYPERPARAMETER"),
    }
    for name, (key, typed, code) in bad.items():
        yield Case(f"hyper-{name}", 14, llama({p + key: typed}), code, stage="model")
    other = llama().replace(text("llama"), text("xlstm"), 1)
    yield Case("architecture-unknown", 14, other, "RQ_E_ARCHITECTURE", "xlstm", "model")
    yield Case("model-ok", 0, llama(), None, stage="model")


def architectures() -> Iterator[Case]:
    """The architectures beside llama: complete, and with parts missing or of another shape."""
    yield Case("model-ok-qwen2", 0, llama(architecture="qwen2", own=QWEN2_TENSORS), None, stage="model")
    yield Case("model-ok-qwen3", 0, llama(architecture="qwen3", own=QWEN3_TENSORS), None, stage="model")
    yield Case(
        "model-ok-qwen3-biases",
        0,
        llama(architecture="qwen3", own=QWEN3_TENSORS | QWEN2_TENSORS),
        None,
        stage="model",
    )
    wide: dict[str, tuple[int, ...]] = dict.fromkeys(QWEN3_TENSORS, (9,))
    bad: dict[str, tuple[str, dict[str, tuple[int, ...]], str]] = {
        "qwen2-without-biases": ("qwen2", {}, "attn_q.bias"),
        "qwen2-bias-of-another-width": ("qwen2", QWEN2_TENSORS | {"blk.0.attn_v.bias": (32,)}, "attn_v.bias"),
        "qwen3-without-norms-of-heads": ("qwen3", {}, "attn_q_norm"),
        "qwen3-norms-of-another-width": ("qwen3", wide, "attn_q_norm"),
    }
    for name, (architecture, own_tensors, says) in bad.items():
        data = llama(architecture=architecture, own=own_tensors)
        yield Case(name, 14, data, "RQ_E_TENSOR", says, "model")
    other = llama(architecture="qwen3", own=QWEN3_TENSORS).replace(text("qwen3"), text("qwen2"), 1)
    yield Case("qwen2-with-keys-of-qwen3", 14, other, "RQ_E_HYPERPARAMETER", "qwen2.", "model")


def whole_models() -> Iterator[Case]:
    """Classes 15 and 19 as a user meets them: a model that is right but for its vocabulary, a weight, a
    digest."""
    parts = llama_vocabulary()
    scores = [part for part in parts if part.startswith(text("tokenizer.ggml.scores"))]
    short = [part for part in parts if part not in scores] + [
        array("tokenizer.ggml.scores", F32, [0.0] * 258)
    ]
    yield Case("open-scores-too-few", 15, llama(vocabulary=short), "RQ_E_TOKENIZER", "scores", "open")
    yield Case("open-weight-nan", 19, llama(nan=True), "RQ_E_DATA", "output_norm", "open")
    digest = array("ruvq.sha256.tensors", STRING, ["0" * 64] * 11)
    yield Case("open-digest-differs", 19, llama(extra=[digest]), "RQ_E_INTEGRITY", "token_embd", "open")
    yield Case("ok-open", 0, llama(), None, stage="open")


GENERATORS = (hyperparameters, architectures, whole_models)
