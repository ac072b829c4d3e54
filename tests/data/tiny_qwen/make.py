"""Makes this folder's models: a tiny random Qwen2ForCausalLM and Qwen3ForCausalLM as transformers saves
them, and their logits.

    python tests/data/tiny_qwen/make.py        needs torch and transformers

The weights are drawn so large that attention and every layer matter, biases and the norms of the heads
included, rounded to bfloat16 (which halves the files) and computed with in float32.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers

FOLDER = Path(__file__).parent
SEED = 525
TOKENS = 24
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 172,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
    "max_position_embeddings": 128,
    "initializer_range": 0.15,
    "rope_theta": 1e6,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
OWN_SIZES: dict[str, dict[str, Any]] = {
    "qwen2": {},
    "qwen3": {"head_dim": 24},  # four heads are wider than the model, as in Qwen3-0.6B
}


def build(kind: str, seed: int = SEED, **changes: Any) -> Any:
    """The model, float32 with bfloat16's values. `kind`: "qwen2" or "qwen3"."""
    torch.manual_seed(seed)
    settings = SIZES | OWN_SIZES[kind] | changes
    if kind == "qwen2":
        model = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**settings))
    else:
        model = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**settings))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("norm.weight"):
                weight.uniform_(0.5, 1.5)
            elif name.endswith(".bias"):
                weight.normal_(std=0.5)
            weight.copy_(weight.bfloat16().float())
    return model.eval()


def logits(model: Any, tokens: list[int]) -> torch.Tensor:
    """float32 (tokens, vocab)."""
    with torch.no_grad():
        return model.float()(torch.tensor([tokens])).logits[0]


def main() -> None:
    """Writes models, tokens and logits."""
    for kind in OWN_SIZES:
        folder = FOLDER / kind
        model = build(kind)
        tokens = torch.randint(0, SIZES["vocab_size"], (TOKENS,)).tolist()
        expected = logits(model, tokens)
        model.bfloat16().save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        recorded = {"transformers": transformers.__version__, "torch": torch.__version__, "tokens": tokens}
        (folder / "recorded.json").write_text(json.dumps(recorded) + "\n")
        (folder / "logits.f32").write_bytes(expected.numpy().astype("<f4").tobytes())


if __name__ == "__main__":
    main()
