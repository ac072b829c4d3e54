"""Quantizes a model to 3 bits and lets it write: python examples/story.py SOURCE [TOKENIZER]

SOURCE: a Hugging Face folder, a .safetensors or GGUF file in floats, or a llama2.c checkpoint with its
TOKENIZER.
"""

import sys
import tempfile
from pathlib import Path

import ruvq

source, *tokenizer = sys.argv[1:]
with tempfile.TemporaryDirectory() as folder:
    target = Path(folder) / "model.gguf"
    report = ruvq.quantize_model(source, target, "pi-t3", tokenizer=tokenizer[0] if tokenizer else None)
    print(f"{report.bits_per_weight_actual:.2f} bits per weight, {report.snr_db:.1f} dB", file=sys.stderr)
    with ruvq.Model.open(target) as model:
        for piece in model.generate("Once upon a time", max_tokens=60, seed=1):
            print(piece, end="", flush=True)
        print(f"\n{model.stats.tokens_per_second:.0f} tokens per second", file=sys.stderr)
