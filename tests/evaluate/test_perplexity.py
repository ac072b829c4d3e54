"""The eval protocol of docs/formats.md, window by window."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import ruvq
from ruvq.errors import UsageError
from ruvq.evaluate import eval_windows, perplexity
from ruvq.quantize.pipeline import quantize_model
from sources.tiny_models import random_weights, write_huggingface


class Letters:
    """A tokenizer of single characters; BOS is 0."""

    bos: int | None = 0

    def encode(self, text: str, add_special: bool = False, parse_special: bool = False) -> list[int]:
        return [ord(c) for c in text]


def shown(text: str, window: int, max_tokens: int | None = None) -> list[str]:
    return [
        "".join(chr(t) if t else "^" for t in w) for w in eval_windows(text, Letters(), window, max_tokens)
    ]


@pytest.mark.parametrize(
    ("text", "windows"),
    [
        ("abcdefg", ["^abc", "defg"]),
        ("abcdefgh", ["^abc", "defg"]),  # a window of one token predicts nothing
        ("abcdefghi", ["^abc", "defg", "hi"]),
        ("abc<|endoftext|>defg<|endoftext|>", ["^abc", "^def"]),
        ("<|endoftext|>\n ab \n<|endoftext|>\n\n<|endoftext|>cd", ["^ab", "^cd"]),
        (" a b ", ["^a b"]),
        ("", []),
        ("<|endoftext|>", []),
    ],
)
def test_pieces_begin_with_bos_and_windows_don_t_overlap(text: str, windows: list[str]) -> None:
    assert shown(text, 4) == windows


@pytest.mark.parametrize(
    ("limit", "windows"),
    [
        (1, ["^abc", "def"]),  # the piece is finished
        (5, ["^abc", "def"]),
        (6, ["^abc", "def", "^xyz"]),
        (8, ["^abc", "def", "^xyz"]),
        (9, ["^abc", "def", "^xyz", "^pq"]),
        (99, ["^abc", "def", "^xyz", "^pq"]),
    ],
)
def test_a_cap_ends_with_the_piece_it_is_reached_in(limit: int, windows: list[str]) -> None:
    assert shown("abcdef<|endoftext|>xyz<|endoftext|>pq", 4, limit) == windows


@pytest.mark.parametrize(("limit", "count"), [(1, 1), (3, 1), (4, 2), (6, 2), (7, 3)])
def test_a_cap_on_one_piece_ends_with_the_window(limit: int, count: int) -> None:
    assert shown("abcdefghijklmnop", 4, limit) == ["^abc", "defg", "hijk"][:count]


def test_a_vocabulary_without_bos_predicts_all_but_its_first_token() -> None:
    tokenizer = Letters()
    tokenizer.bos = None
    assert list(eval_windows("abc", tokenizer, 8)) == [[97, 98, 99]]


def test_a_window_of_one_token_is_refused() -> None:
    with pytest.raises(UsageError, match="two tokens"):
        list(eval_windows("abc", Letters(), 1))


def test_perplexity_is_exp_of_the_mean_loss_and_its_error_is_over_windows(tmp_path: Path) -> None:
    model = write_huggingface(tmp_path / "model", random_weights())
    quantize_model(model, tmp_path / "a.gguf", "f32", progress=False)
    text = "some words to be predicted<|endoftext|>and a few others, of another piece"
    seen: list[tuple[int, int, float]] = []
    with ruvq.Model.open(tmp_path / "a.gguf", kv="f32") as opened:
        result = perplexity(opened, text, window=8, progress=lambda *now: seen.append(now))
        losses = []
        for tokens in eval_windows(text, opened.tokenizer, 8):
            logits = np.asarray(opened.logits(tokens), np.float64)
            shares = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
            losses.append([-shares[i, after] for i, (_, after) in enumerate(pairwise(tokens))])
    flat = [x for window in losses for x in window]
    assert result.tokens == len(flat)
    assert result.windows == len(losses)
    assert float(result) == pytest.approx(math.exp(np.mean(flat)), rel=1e-5)
    # delta method on the ratio of sums over windows
    mean = np.mean(flat)
    spread = np.sum([(sum(w) - mean * len(w)) ** 2 for w in losses]) * len(losses) / (len(losses) - 1)
    assert result.stderr == pytest.approx(math.exp(mean) * math.sqrt(spread) / len(flat), rel=1e-4)
    assert seen[-1] == (result.tokens, result.tokens, pytest.approx(float(result)))


def test_the_window_is_never_longer_than_the_context(tmp_path: Path) -> None:
    model = write_huggingface(tmp_path / "model", random_weights())
    quantize_model(model, tmp_path / "a.gguf", "f32", progress=False)
    with ruvq.Model.open(tmp_path / "a.gguf", context=16) as opened:
        result = perplexity(opened, "abc " * 30)
        ids = len(opened.tokenizer.encode(("abc " * 30).strip())) + 1
    assert result.windows == math.ceil((ids - 1) / 16)


def test_nothing_to_predict_is_refused(tmp_path: Path) -> None:
    model = write_huggingface(tmp_path / "model", random_weights())
    quantize_model(model, tmp_path / "a.gguf", "f32", progress=False)
    with (
        ruvq.Model.open(tmp_path / "a.gguf") as opened,
        pytest.raises(UsageError, match="nothing to predict"),
    ):
        perplexity(opened, "<|endoftext|> \n")


def test_the_float_model_has_its_known_perplexity(data_dir: Path, tmp_path: Path) -> None:
    folder = data_dir / "stories260K"
    target = tmp_path / "a.gguf"
    quantize_model(folder / "stories260K.bin", target, "f32", tokenizer=folder / "tok512.bin", progress=False)
    text = (data_dir / "text" / "tiny_stories_test.txt").read_text(encoding="utf-8")
    with ruvq.Model.open(target, kv="f32") as opened:
        result = perplexity(opened, text, max_tokens=8000)
    assert (result.windows, result.tokens) == (43, 8283)  # docs/data.md
    assert float(result) == pytest.approx(5.56, abs=0.005)
