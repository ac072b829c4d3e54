"""Small models and texts for the tests of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ruvq.sources import Source, open_source
from ruvq.train import load_model
from ruvq.train.data import Stream, read_records, tokenize, tokenizer_of

STORIES = ("stories260K/stories260K.bin", "stories260K/tok512.bin")


def source_of(data_dir: Path) -> Source:
    """stories260K with its tokenizer."""
    return open_source(data_dir / STORIES[0], data_dir / STORIES[1])


def tiny_llama(seed: int = 0, **changes: Any) -> Any:
    """A random llama of two layers whose widths are no multiples of anything: tails everywhere."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    values = {
        "vocab_size": 61, "hidden_size": 36, "intermediate_size": 52, "num_hidden_layers": 2,
        "num_attention_heads": 3, "num_key_value_heads": 1, "max_position_embeddings": 64,
        "tie_word_embeddings": True, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
    }  # fmt: skip
    model = LlamaForCausalLM(LlamaConfig(**{**values, **changes}))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.3)
    return model.float()


def stream(count: int = 600, vocab: int = 61, seed: int = 0) -> Stream:
    """Tokens with a pattern that can be learnt."""
    random = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, vocab, (count,), generator=random)
    tokens[1::2] = (tokens[0::2] * 7 + 3) % vocab
    return Stream(tokens.numpy(), torch.full((count,), -1).numpy())


def story_streams(data_dir: Path, pieces: int = 12) -> tuple[Source, Stream]:
    """stories260K and some of its stories as tokens."""
    source = source_of(data_dir)
    records = read_records([data_dir / "text/tiny_stories_train.txt"])[:pieces]
    return source, tokenize(records, tokenizer_of(source), source.parameters.vocab_size)


def story_model(source: Source) -> Any:
    """The float model."""
    return load_model(source)
