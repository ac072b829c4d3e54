"""Memory and time of LoRA-QAT on a packed base, for a random model in the shape of Qwen2.5-0.5B.

    python build/qat_memory.py                          the 0.5B shape, pi-t2, 256 tokens a step
    python build/qat_memory.py --layers 4 --steps 3
    python build/qat_memory.py --format pi-t3 --write docs/qat.md
    python build/qat_memory.py --merged                 what `ruvq qat --use-lora` does without --ship-adapter

Prints peak memory (VmHWM of this process, Python and torch included), seconds of a step (median), and the
time of a matrix's scale gradients. The values of the weights are random; what is measured doesn't depend on
them. The loss is the next token's; a teacher would have to fit beside it, or be cached. With --merged the
peak is of the whole way, from reading a source in bfloat16 to the last step.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pages import insert
from ruvq.sources import LlamaParameters, Source, TensorInfo
from ruvq.train import QatConfig, load_model
from ruvq.train.codecs import codec
from ruvq.train.data import NO_STEP
from ruvq.train.held import prepare_lora
from ruvq.train.layers import QuantLinear
from ruvq.train.lora import Adapter, PackedEmbedding, PackedLinear
from ruvq.train.losses import total_loss
from ruvq.train.memory import give_back_freed, peak_bytes
from ruvq.train.packed_rows import PackedRows, packed_loss
from ruvq.train.quantizer import WeightQuantizer

MARKER = "qat memory"
SAMPLE = 64  # rows that are quantized; the others are copies of them
SHAPE: dict[str, Any] = {
    "vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864, "num_attention_heads": 14,
    "num_key_value_heads": 2, "max_position_embeddings": 32768, "tie_word_embeddings": True,
}  # fmt: skip


def packed(rows: int, width: int, config: QatConfig) -> PackedRows:
    """A random matrix in its format, made without holding it in floats."""
    sample = torch.randn(SAMPLE, width) / width**0.5
    of = WeightQuantizer(sample, config)
    data = torch.frombuffer(bytearray(of.data()), dtype=torch.uint8).reshape(SAMPLE, -1)
    return PackedRows(codec(config.format, width, config.k), (rows, width), of.turn,
                      data[torch.randint(0, SAMPLE, (rows,))].reshape(-1))  # fmt: skip


def build(layers: int, config: QatConfig) -> Any:
    """The model, every matrix packed, adapters beside q, k, v and o, the embedding shared with the output."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    shape = Qwen2Config(num_hidden_layers=layers, **SHAPE)
    with torch.device("meta"):
        model = Qwen2ForCausalLM(shape)
    output = packed(SHAPE["vocab_size"], SHAPE["hidden_size"], config)
    for name, module in list(model.named_modules()):
        parent, _, last = name.rpartition(".")
        if isinstance(module, nn.Embedding):
            new: nn.Module = PackedEmbedding(output)
        elif isinstance(module, nn.Linear):
            rows, width = module.out_features, module.in_features
            matrix = output if last == "lm_head" else packed(rows, width, config)
            bias = None if module.bias is None else torch.zeros(rows)
            wanted = last in config.target_modules
            adapter = Adapter(rows, width, config, torch.device("cpu")) if wanted else None
            new = PackedLinear(matrix, bias, adapter)
        elif "RMSNorm" in type(module).__name__:
            module.weight = nn.Parameter(torch.ones(module.weight.shape), requires_grad=False)
            continue
        else:
            continue
        setattr(model.get_submodule(parent), last, new)
    model.model.rotary_emb = type(model.model.rotary_emb)(config=shape)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model.train()


def random_source(layers: int) -> Source:
    """A source of that shape in bfloat16 that makes its rows when they are read, and has no file."""
    parameters = LlamaParameters(
        architecture="qwen2", vocab_size=SHAPE["vocab_size"], width=SHAPE["hidden_size"], layers=layers,
        heads=SHAPE["num_attention_heads"], kv_heads=SHAPE["num_key_value_heads"], head_width=64,
        ff_width=SHAPE["intermediate_size"], context=SHAPE["max_position_embeddings"], tied=True,
        attention_bias=True,
    )  # fmt: skip
    return Source(
        path=Path("random"), kind="random", name="random", parameters=parameters,
        tensors={name: _random_tensor(name, shape) for name, shape in parameters.shapes().items()},
    )  # fmt: skip


def _random_tensor(name: str, shape: tuple[int, ...]) -> TensorInfo:
    def read(first: int, last: int) -> Any:
        values = torch.randn(last - first, shape[-1]) / shape[-1] ** 0.5
        return (values if len(shape) > 1 else values * 0 + 1).bfloat16().float().numpy()

    return TensorInfo(name, shape, "bf16", read)


def build_merged(layers: int, config: QatConfig) -> Any:
    """The model as `ruvq qat --use-lora --gradient-checkpointing` makes it of a source."""
    model: Any = load_model(random_source(layers), halves=True)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return prepare_lora(model, config).train()


def logits_loss(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """The next token's loss as the training loop has it, with all logits."""
    nowhere = torch.full_like(tokens, NO_STEP)
    return total_loss(model(tokens, use_cache=False).logits, None, tokens, nowhere, QatConfig()).total


def steps(model: Any, loss: Any, length: int, count: int) -> list[float]:
    """Seconds of each step on random tokens; the first warms up and isn't among them."""
    adapters = [p for p in model.parameters() if p.requires_grad]
    optimizer, spent = torch.optim.AdamW(adapters, lr=1e-4), []
    for _ in range(count + 1):
        started = time.perf_counter()
        loss(model, torch.randint(0, SHAPE["vocab_size"], (1, length))).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        spent.append(time.perf_counter() - started)
    return spent[1:]


def scale_gradient(config: QatConfig, rows: int, width: int) -> float:
    """Milliseconds of the backward pass of one matrix whose scales are learned."""
    weights = torch.randn(rows, width) / width**0.5
    quantizer = WeightQuantizer(weights, config.changed(ste="lsq"))
    weights.requires_grad_()
    spent = []
    for _ in range(5):
        value = quantizer(weights)
        started = time.perf_counter()
        value.sum().backward()
        spent.append(time.perf_counter() - started)
    return 1000 * statistics.median(spent)


def table(args: argparse.Namespace) -> str:
    """The figures as Markdown."""
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    config = QatConfig.preset(args.format, use_lora=True, lora_rank=args.rank)
    before = peak_bytes()
    started = time.perf_counter()
    make, loss = (build_merged, logits_loss) if args.merged else (build, packed_loss)
    model = make(args.layers, config)
    made = time.perf_counter() - started
    weights = sum(
        m.packed.shape[0] * m.packed.shape[1] for m in model.modules() if isinstance(m, PackedLinear)
    )
    floats = sum(m.weight.numel() for m in model.modules() if isinstance(m, QuantLinear))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    built = peak_bytes()
    spent, peak = steps(model, loss, args.tokens, args.steps), peak_bytes()
    width = SHAPE["hidden_size"]
    flags = f"--format {args.format} --layers {args.layers} --tokens {args.tokens} --threads {args.threads}"
    flags += " --merged" if args.merged else ""
    lines = [
        f"`python build/qat_memory.py {flags}`: {weights / 1e6:.0f} million weights packed as {args.format},",
        *([f"{floats / 1e6:.0f} million in bfloat16,"] if args.merged else []),
        f"{trained / 1e6:.2f} million trained in adapters of rank {args.rank}, gradient checkpointing, "
        f"{args.tokens} tokens a step, on a CPU that was busy with other work too.",
        "",
        "| | |",
        "| --- | --- |",
        f"| peak memory (VmHWM) | {peak / 1e6:.0f} MB |",
        f"| of that, Python with torch | {before / 1e6:.0f} MB |",
        *([f"| peak until the model is ready | {built / 1e6:.0f} MB |"] if args.merged else []),
        *([f"| reading and packing it | {made:.0f} s |"] if args.merged else []),
        f"| a step, median of {args.steps} | {statistics.median(spent):.1f} s |",
        f"| gradients of a matrix {width} x {width} with learned scales | "
        f"{scale_gradient(config, width, width):.1f} ms |",
    ]
    return "\n".join(lines)


def main() -> None:
    """Prints the figures or writes them into a page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--format", default="pi-t2", help="pi-t2 (default), pi-t3, ternary, ...")
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--merged", action="store_true", help="adapters that will be merged, all logits held")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="Markdown page to put the figures into")
    args = parser.parse_args()
    give_back_freed()
    content = table(args)
    if args.write:
        insert(args.write, f"{MARKER} merged" if args.merged else MARKER, content)
    else:
        print(content)


if __name__ == "__main__":
    main()
