"""Write the trained model as a Hugging Face folder in F16, and read such a folder back into llama.py.

The folder is made beside its final place and renamed file by file; nothing half-written is left under a
final name.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from llama import Llama, LlamaConfig
from train_tokenizer import END_OF_TEXT_ID, save_tokenizer


def hf_config(config: LlamaConfig) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **config.to_dict(),
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "rope_scaling": None,
        "tie_word_embeddings": True,
        "bos_token_id": END_OF_TEXT_ID,
        "eos_token_id": END_OF_TEXT_ID,
        "torch_dtype": "float16",
    }


def write_json(path: Path, value: object) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(value, indent=2) + "\n")
    os.replace(part, path)


def export(model: Llama, tokenizer: Tokenizer, folder: Path) -> None:
    """Weights in F16 under transformers' names, config, tokenizer, generation defaults."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"model.{name}": p.detach().to(torch.float16).contiguous() for name, p in model.named_parameters()
    }
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"export: {name} has values that F16 cannot hold")
    part = folder / "model.safetensors.part"
    save_file(tensors, part, metadata={"format": "pt"})
    part.chmod(0o644)  # save_file keeps it to its owner
    os.replace(part, folder / "model.safetensors")
    config = model.config
    write_json(folder / "config.json", hf_config(config))
    generation = {
        "bos_token_id": END_OF_TEXT_ID,
        "eos_token_id": END_OF_TEXT_ID,
        "do_sample": True,
        "temperature": 0.7,
        "top_p": 0.95,
        "max_new_tokens": 300,
    }
    write_json(folder / "generation_config.json", generation)
    save_tokenizer(tokenizer, folder, config.max_position_embeddings)


def load_folder(folder: Path) -> tuple[Llama, Tokenizer, int]:
    """The model in float32 with the folder's F16 values, its tokenizer and the id of BOS."""
    raw = json.loads((folder / "config.json").read_text())
    fields = LlamaConfig().to_dict()
    model = Llama(LlamaConfig(**{key: raw[key] for key in fields}))
    tensors = load_file(folder / "model.safetensors")
    model.load_state_dict({name.removeprefix("model."): t.float() for name, t in tensors.items()})
    return model.eval(), Tokenizer.from_file(str(folder / "tokenizer.json")), raw["bos_token_id"]
