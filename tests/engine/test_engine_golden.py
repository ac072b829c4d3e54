"""A trained model: the text and the perplexity that others measured with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import tiny
from ruvq import Model

GOLDEN_TOKENS = 256  # after BOS


@pytest.fixture(scope="module")
def stories(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """stories260K in float32."""
    return tiny.write(tmp_path_factory.mktemp("stories") / "stories.gguf", tiny.stories260k(data_dir))


@pytest.fixture(scope="module")
def expected(data_dir: Path) -> str:
    return (data_dir / "stories260K" / "greedy_expected.txt").read_text()


@pytest.mark.parametrize("scalar", [False, True])
def test_greedy_text_is_the_recorded_one(scalar: bool, stories: Path, expected: str) -> None:
    with Model.open(stories, kv="f32", scalar=scalar) as model:
        generation = model.generate("", GOLDEN_TOKENS, temperature=0)
        assert "".join(generation) == expected
        assert generation.finish_reason == "length"
        assert len(generation.tokens) == GOLDEN_TOKENS


def test_perplexity_is_the_published_one(stories: Path, data_dir: Path) -> None:
    """5.56 on the first 21 stories: 43 windows, 8,283 tokens."""
    text = (data_dir / "text" / "tiny_stories_test.txt").read_text()
    pieces = [p for p in text.split("<|endoftext|>") if p.strip()]
    with Model.open(stories, kv="f32") as model:
        perplexity = model.perplexity("<|endoftext|>".join(pieces[:21]))
    assert (perplexity.windows, perplexity.tokens) == (43, 8283)
    assert float(perplexity) == pytest.approx(5.56, abs=0.005)
    assert 0 < perplexity.stderr < 1


def test_quantized_to_eight_bits_it_is_nearly_as_good(data_dir: Path, tmp_path: Path) -> None:
    """Q8_0 where its blocks of 32 fit; ffn_down is 172 wide and stays in float."""
    import gguf

    model = tiny.stories260k(data_dir)
    names = [n for n in tiny.matrix_names(model) if model.tensors[n].shape[1] % 32 == 0]
    path = tmp_path / "q8.gguf"
    tiny.write(path, model, dtypes=dict.fromkeys(names, gguf.GGMLQuantizationType.Q8_0))
    text = (data_dir / "text" / "tiny_stories_test.txt").read_text()
    with Model.open(path) as opened:
        perplexity = opened.perplexity("<|endoftext|>".join(text.split("<|endoftext|>")[:21]))
    assert float(perplexity) == pytest.approx(5.56, abs=0.03)
