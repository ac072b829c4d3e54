"""Makes this folder: a tiny random LlamaForCausalLM as transformers saves it, and its logits.

    python tests/data/tiny_llama/make.py        needs torch and transformers

The weights are drawn so large that attention and every layer matter, rounded to bfloat16 (which halves
the file) and computed with in float32.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers

FOLDER = Path(__file__).parent
SEED = 260
TOKENS = 24


def build() -> transformers.LlamaForCausalLM:
    """The model, float32 with bfloat16's values."""
    torch.manual_seed(SEED)
    config = transformers.LlamaConfig(
        hidden_size=64,
        intermediate_size=172,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=512,
        max_position_embeddings=128,
        initializer_range=0.15,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("norm.weight"):
                weight.uniform_(0.5, 1.5)
            weight.copy_(weight.bfloat16().float())
    return model


def logits(model: transformers.LlamaForCausalLM, tokens: list[int]) -> torch.Tensor:
    """float32 (tokens, vocab)."""
    with torch.no_grad():
        return model.float()(torch.tensor([tokens])).logits[0]


def main() -> None:
    """Writes model, tokens and logits."""
    model = build()
    tokens = torch.randint(0, 512, (TOKENS,)).tolist()
    expected = logits(model, tokens)
    model.bfloat16().save_pretrained(FOLDER)
    (FOLDER / "generation_config.json").unlink(missing_ok=True)
    recorded = {"transformers": transformers.__version__, "torch": torch.__version__, "tokens": tokens}
    (FOLDER / "recorded.json").write_text(json.dumps(recorded) + "\n")
    (FOLDER / "logits.f32").write_bytes(expected.numpy().astype("<f4").tobytes())


if __name__ == "__main__":
    main()
