"""Write the model card (README.md of the exported folder): what the model is, from what, how good, by which
command.
"""

from __future__ import annotations

import argparse
import os
import platform
from pathlib import Path

import torch

from evaluate import evaluate
from export_hf import load_folder
from train import TrainConfig

CARD = """\
# A story model for ruvq

A small llama that writes simple English stories, made for this project so that `make demo` has a float
source to quantize. It knows a child's vocabulary and nothing else: no facts, no instructions, no other
languages.

## Data
| text | stories | tokens | source | licence |
| --- | --- | --- | --- | --- |
| TinyStories excerpt, `tiny_stories_train.txt` | {real_stories:,} | {real_tokens:,} | \
`s-ajaykumar/smallGPT`, after Eldan and Li's TinyStories | CDLA-Sharing-1.0 |
| sampled by the ternary model `bit_model_3M.bin` | {sampled_stories:,} | {sampled_tokens:,} | \
sampled by `build/model/sample_teacher.py`; the model: `HKUSTGZ-MICS-LYU/bitllama2.c` | MIT (the model) |

The sampled stories are at temperatures 0.8 and 1.0, top-p 0.98; half of them start from the first words of
a real training story. Left out are those that did not end within 500 of the teacher's tokens, repeat a
sentence, are shorter than 300 characters or use a word that no real training story and fewer than 12 sampled
ones have. None of the teacher's weights are in this model. `tiny_stories_test.txt` was never trained on. (The
counts are printed by `build/model/make.py`.)

## Architecture
`LlamaForCausalLM`, {parameters:,} parameters, F16: {layers} layers, width {hidden}, feed-forward {ffn},
{heads} heads of {head_dim} with {kv_heads} key/value heads, RoPE theta {theta:g}, RMSNorm, SwiGLU, tied
embeddings, context {context}. {ffn} is no multiple of 256. Tokenizer: byte-level BPE of
{vocab:,} tokens, GPT-2's pre-tokenizer; `<|endoftext|>` (0) stands before each story and after it, as BOS
and EOS. `model.safetensors` has {file_bytes:,} bytes.

## Quality in floats
`tiny_stories_test.txt`, each story with BOS, windows of 256 tokens without overlap, F16 weights computed in
float32:

| loss per token | perplexity | bits per byte | windows | tokens |
| --- | --- | --- | --- | --- |
| {loss:.4f} ± {standard_error:.4f} | {perplexity:.3f} | {bits_per_byte:.4f} | {windows} | {tokens} |

    python build/model/evaluate.py --model web/model --text ../shared/data/text/tiny_stories_test.txt

Perplexity per token depends on the tokenizer; bits per byte compare with other models. The averaged weights
before they were rounded to F16 give a loss of {float_loss:.4f} (printed by `build/model/make.py` at the
end).

On the first 40,000 bytes of the training stories the loss is {train_loss:.4f}: they are few, and partly
learnt by heart. The sampled stories are more alike than real ones (many are about Lily), and so is what the
model writes.

    python build/model/evaluate.py --model web/model --text ../shared/data/text/tiny_stories_train.txt \\
        --max-bytes 40000

## Quality when quantized
Per format, embeddings and output by the same plan, activations in int8 as in the engine; the text is
stripped of white space around stories, as docs/formats.md has it, so floats stand here too:

<!-- quantized: begin -->
<!-- quantized: end -->

    .venv/bin/python build/model/quantized_table.py --data ../shared/data

In the last {noise_share:.0%} of the training the weights had Gaussian noise in every forward pass, of a size
drawn between 0 and {noise:g} of a row's root mean square. It stands for the error of 2 to 3 bits, so that the
model meets that error before it is quantized.

## Training
    python build/model/make.py --data ../shared/data --out web/model {options}

{steps:,} steps, {trained_tokens:.1f} million tokens, {minutes:.2g} minutes on {hardware}; the same number
of steps again with `--steps {steps}`. Muon for the matrices, AdamW for the embedding and the norms,
bfloat16 arithmetic with float32 weights; the exported weights are an exponential average. (Steps, tokens,
minutes, parameters and bytes are printed by `build/model/make.py`.) {note}
"""

TRAIN_SAMPLE_BYTES = 40_000


def hardware(device: str) -> str:
    if device == "cuda":
        return f"one {torch.cuda.get_device_name()}"
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            ln.split(":")[1].strip() for ln in cpuinfo.read_text().splitlines() if ln.startswith("model name")
        ]
        model = names[0] if names else model
    threads = torch.get_num_threads()
    return f"{threads} CPU thread{'s' if threads > 1 else ''} ({model}), shared with other work"


def write_card(
    model: torch.nn.Module, training: TrainConfig, args: argparse.Namespace, facts: dict[str, float]
) -> None:
    """Measure the exported folder on the test text and write its README.md."""
    text = (args.data / "text" / "tiny_stories_test.txt").read_text()
    exported, tokenizer, bos = load_folder(args.out)
    result = evaluate(exported, text, tokenizer, bos)
    float_loss = evaluate(model, text, tokenizer, bos)["loss"]
    train_text = (args.data / "text" / "tiny_stories_train.txt").read_bytes()[:TRAIN_SAMPLE_BYTES]
    config = exported.config
    options = f"--steps {args.steps}" if args.steps else f"--minutes {args.minutes:g}"
    if args.device != "cpu":
        options = f"--device {args.device} {options} --megabytes {args.megabytes:g}"
    values = {
        **facts,
        **result,
        "float_loss": float_loss,
        "train_loss": evaluate(exported, train_text.decode(errors="ignore"), tokenizer, bos)["loss"],
        "note": args.note,
        "trained_tokens": facts["tokens"] / 1e6,
        "layers": config.num_hidden_layers,
        "hidden": config.hidden_size,
        "ffn": config.intermediate_size,
        "heads": config.num_attention_heads,
        "kv_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "theta": config.rope_theta,
        "context": config.max_position_embeddings,
        "vocab": config.vocab_size,
        "options": options + (f" --threads {args.threads}" if args.threads else ""),
        "hardware": hardware(args.device),
        "noise": training.noise,
        "noise_share": 1.0 - training.noise_from,
    }
    part = args.out / "README.md.part"
    part.write_text(CARD.format(**values).rstrip() + "\n")
    os.replace(part, args.out / "README.md")
    print(f"result: loss {result['loss']:.4f} in F16, {float_loss:.4f} before rounding; {facts}", flush=True)
