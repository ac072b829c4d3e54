"""ruvq.Model: text in pieces, finish reasons, stopping, cancelling, numbers."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from engine import tiny
from ruvq import Model, RuvqError
from ruvq.errors import ContextFullError, StorageError, UsageError
from ruvq.runtime.generation import StopFilter
from ruvq.runtime.model import Perplexity
from ruvq.runtime.windows import eval_windows

Result = TypeVar("Result")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model that can write letters, bytes and the end token."""
    model = tiny.with_vocabulary(tiny.random_llama(vocab=400, context=64))
    return tiny.write(tmp_path_factory.mktemp("model") / "letters.gguf", model)


@pytest.fixture
def model(path: Path) -> Model:
    with Model.open(path) as opened:
        yield opened  # type: ignore[misc]


def test_pieces_make_the_text_and_the_seed_decides_it(model: Model) -> None:
    generation = model.generate("ab", 30, temperature=1.5, seed=4)
    pieces = list(generation)
    assert all(pieces)
    assert "".join(pieces) == generation.text
    assert "".join(model.generate("ab", 30, temperature=1.5, seed=4)) == generation.text
    assert "".join(model.generate("ab", 30, temperature=1.5, seed=5)) != generation.text


def test_without_a_seed_the_one_drawn_is_told(model: Model) -> None:
    first = model.generate("ab", 12, temperature=2.0)
    text = "".join(first)
    assert "".join(model.generate("ab", 12, temperature=2.0, seed=first.sampling.seed)) == text
    assert model.generate("ab", 1).sampling.seed != model.generate("ab", 1).sampling.seed


def test_max_tokens_ends_with_length(model: Model) -> None:
    generation = model.generate("ab", 5, temperature=0)
    "".join(generation)
    assert (generation.finish_reason, len(generation.tokens)) == ("length", 5)
    nothing = model.generate("ab", 0)
    assert (list(nothing), nothing.finish_reason, nothing.tokens) == ([], "length", [])


def test_a_full_context_is_a_clean_end(path: Path) -> None:
    with Model.open(path, context=16) as model:
        for seed in range(50):
            generation = model.generate([1, 300, 301], 100, temperature=3.0, seed=seed)
            list(generation)
            if generation.finish_reason == "context":
                break
        assert generation.finish_reason == "context"
        assert len(generation.tokens) == 16 - 3 + 1  # the last needs no place
        full = model.generate([1] * 16, 100, seed=1)
        list(full)
        assert (full.finish_reason in ("context", "stop"), len(full.tokens)) == (True, 1)


def test_an_end_token_ends_with_stop_and_is_not_shown(tmp_path: Path) -> None:
    weights = tiny.with_vocabulary(tiny.random_llama(vocab=400, tied=False))
    weights.tensors["output_norm.weight"] = np.abs(weights.tensors["output_norm.weight"])
    weights.tensors["output.weight"][:] *= np.float32(1e-3)
    with Model.open(tiny.write(tmp_path / "a.gguf", weights)) as model:
        first = model.logits([1, 300])[-1]
    # the end token gets the logits of whatever came out on top, doubled
    weights.tensors["output.weight"][2] = 2 * weights.tensors["output.weight"][int(np.argmax(first))]
    with Model.open(tiny.write(tmp_path / "b.gguf", weights)) as model:
        generation = model.generate([1, 300], 20, temperature=0)
        assert "".join(generation) == ""
        assert (generation.finish_reason, generation.tokens) == ("stop", [2])


def test_stop_strings_cut_the_text_before_them(model: Model) -> None:
    text = "".join(model.generate("ab", 40, temperature=2.0, seed=3))
    assert len(text) > 20
    stop = text[12:15]
    generation = model.generate("ab", 40, temperature=2.0, seed=3, stop=["never there", stop])
    assert "".join(generation) == text[: text.index(stop)]
    assert generation.finish_reason == "stop"
    assert "".join(model.generate("ab", 40, temperature=2.0, seed=3, stop="\x00")) == text


def test_the_stop_filter_holds_back_only_what_may_be_a_stop() -> None:
    filters = StopFilter(["END", "EN!"])
    assert [filters.push(t) for t in ("ab", "cE", "N", "x", "E", "N", "D", "more")] == [
        "ab", "c", "", "ENx", "", "", "", "",
    ]  # fmt: skip
    assert filters.stopped
    kept = StopFilter(["END"])
    assert (kept.push("the E"), kept.flush()) == ("the ", "E")
    plain = StopFilter([])
    assert (plain.push("E"), plain.flush(), plain.stopped) == ("E", "", False)


def test_characters_come_whole_however_many_tokens_they_take(path: Path) -> None:
    """Hot sampling over byte tokens: pieces are valid text, and together they are the tokens' bytes."""
    with Model.open(path) as model:
        generation = model.generate([1], 60, temperature=50.0, top_p=1.0, seed=6)
        pieces = list(generation)
        raw = b"".join(model.tokenizer.token_bytes(t) for t in generation.tokens)
        assert "".join(pieces) == raw.decode("utf-8", "replace")


def test_closing_ends_a_generation_and_the_model_goes_on(model: Model) -> None:
    generation = model.generate("ab", 40, temperature=2.0, seed=3)
    next(generation)
    generation.close()
    assert generation.finish_reason == "aborted"
    assert list(generation) == []
    text = "".join(model.generate("ab", 40, temperature=2.0, seed=3))
    assert text.startswith(generation.text)


def test_a_new_generation_ends_the_one_before(model: Model) -> None:
    first = model.generate("ab", 40, seed=3)
    next(first)
    second = model.generate("ba", 10, temperature=0)
    assert list(first) == []
    assert first.finish_reason == "aborted"
    alone = "".join(model.generate("ba", 10, temperature=0))
    assert second.text == ""
    assert alone


def test_an_interrupt_leaves_a_model_that_can_be_used(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Model.open(path) as model:
        expected = "".join(model.generate("ab", 20, temperature=2.0, seed=3))
        assert model._engine is not None
        sample, calls = model._engine.sample, 0

        def interrupted(recent: object = ()) -> int:
            nonlocal calls
            calls += 1
            if calls == 5:
                raise KeyboardInterrupt
            return sample()

        monkeypatch.setattr(model._engine, "sample", interrupted)
        generation = model.generate("ab", 20, temperature=2.0, seed=3)
        with pytest.raises(KeyboardInterrupt):
            list(generation)
        assert generation.finish_reason == "aborted"
        assert expected.startswith(generation.text)
        assert "".join(model.generate("ab", 20, temperature=2.0, seed=3)) == expected


def run_alone(work: Coroutine[Any, Any, Result]) -> Result:
    """The result of a coroutine, in a thread of its own: this one may have a browser's event loop."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def test_streams_give_the_event_loop_a_turn_before_every_piece(model: Model) -> None:
    async def main() -> tuple[str, int]:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counter = asyncio.create_task(count())
        pieces = [piece async for piece in model.stream("ab", 20, temperature=2.0, seed=3)]
        counter.cancel()
        assert turns >= len(pieces)
        return "".join(pieces), len(pieces)

    text, pieces = run_alone(main())
    assert text == "".join(model.generate("ab", 20, temperature=2.0, seed=3))
    assert pieces > 5


def test_streams_can_be_cancelled_at_a_token(model: Model) -> None:
    async def main() -> list[str]:
        seen: list[str] = []

        async def consume() -> None:
            async for piece in model.stream("ab", 60, temperature=2.0, seed=3):
                seen.append(piece)

        task = asyncio.create_task(consume())
        while len(seen) < 3:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return seen

    seen = run_alone(main())
    assert 3 <= len(seen) <= 5
    assert "".join(model.generate("ab", 60, temperature=2.0, seed=3)).startswith("".join(seen))


def test_a_prompt_longer_than_the_context_is_refused_with_numbers(model: Model) -> None:
    with pytest.raises(ContextFullError) as caught:
        model.generate([1] * 65, 5)
    assert "64" in caught.value.expected
    assert "65" in caught.value.actual
    assert caught.value.hint


@pytest.mark.parametrize(
    "options",
    [
        {"prompt": []},
        {"prompt": [400]},
        {"prompt": [-1]},
        {"max_tokens": -1},
        {"temperature": -1.0},
        {"top_p": 0.0},
        {"top_k": -1},
        {"top_k": 2**31},
        {"seed": -1},
        {"seed": 2**64},
    ],
)
def test_bad_arguments_are_refused(model: Model, options: dict[str, object]) -> None:
    arguments = {"prompt": "ab", "max_tokens": 3} | options
    with pytest.raises(UsageError) as caught:
        list(model.generate(**arguments))  # type: ignore[arg-type]
    assert caught.value.expected


def test_logits_and_scores_agree(model: Model) -> None:
    tokens = [1, 300, 20, 311, 399, 2, 2, 17] * 5
    logits = np.asarray(model.logits(tokens), np.float64)
    assert logits.shape == (40, 400)
    exact = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    expected = [exact[i, t] for i, t in enumerate(tokens[1:])]
    assert model.score(tokens) == pytest.approx(expected, abs=1e-6)
    assert model.score([5]) == []


def test_perplexity_splits_documents_and_windows(model: Model) -> None:
    text = "abcabc " * 30 + "<|endoftext|>\n xyz <|endoftext|>\n"
    windows = list(eval_windows(text, model.tokenizer, 20))
    bos = model.tokenizer.bos
    assert max(len(w) for w in windows) == 20
    assert windows[-1] == [bos, *model.tokenizer.encode("xyz")]
    scores = [model.score(w) for w in windows]
    perplexity = model.perplexity(text, 20)
    assert perplexity.tokens == sum(len(s) for s in scores)
    assert perplexity.windows == len(windows)
    mean = -sum(sum(s) for s in scores) / perplexity.tokens
    assert float(perplexity) == pytest.approx(np.exp(mean))
    for nothing in (" <|endoftext|> ", ""):
        with pytest.raises(UsageError):
            model.perplexity(nothing)
    with pytest.raises(UsageError):
        model.perplexity(text, 1)


def test_the_standard_error_is_that_of_the_mean_over_windows() -> None:
    """Equal windows: the textbook's standard error of their means; one window: of its tokens."""
    means = np.array([1.0, 2.0, 4.0])
    perplexity = Perplexity.of([[-m] * 7 for m in means])
    assert float(perplexity) == pytest.approx(np.exp(means.mean()))
    expected = perplexity * means.std(ddof=1) / np.sqrt(3)
    assert (perplexity.stderr, perplexity.windows, perplexity.tokens) == (pytest.approx(expected), 3, 21)
    single = Perplexity.of([[], list(-means)])
    assert (single.stderr, single.windows, single.tokens) == (pytest.approx(expected), 1, 3)
    assert Perplexity.of([[-1.0]]).stderr == 0.0


def test_bytes_files_and_paths_open_alike(path: Path) -> None:
    data = path.read_bytes()
    texts = set()
    for source in (path, str(path), data, bytearray(data), memoryview(data), io.BytesIO(data)):
        with Model.open(source) as model:
            texts.add("".join(model.generate("ab", 20, temperature=2.0, seed=3)))
    assert len(texts) == 1


def test_a_closed_model_says_so_and_its_tokenizer_still_works(path: Path) -> None:
    model = Model.open(path)
    generation = model.generate("ab", 5)
    tokenizer = model.tokenizer
    model.close()
    model.close()
    assert list(generation) == []
    assert tokenizer.decode(tokenizer.encode("abba")) == "abba"
    for use in (
        model.reset,
        model.hashes,
        lambda: model.score([1, 2]),
        lambda: list(model.generate("ab", 5)),
    ):
        with pytest.raises(UsageError, match="closed"):
            use()
    assert "closed" in repr(model)


def test_verify_finds_damage_before_anything_runs(path: Path, tmp_path: Path) -> None:
    model = tiny.random_llama()
    model.tensors["blk.0.ffn_up.weight"][2, 3] = np.nan
    damaged = tiny.write(tmp_path / "m.gguf", model)
    with pytest.raises(RuvqError, match=r"blk\.0\.ffn_up"):
        Model.open(damaged, verify=True)
    with Model.open(path, verify=True) as opened:
        assert opened.score([1, 2])


def test_a_missing_file_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        Model.open(tmp_path / "none.gguf")


def test_info_and_stats(model: Model, path: Path) -> None:
    info = model.info
    assert (info.architecture, info.vocab_size, info.width, info.layers) == ("llama", 400, 60, 3)
    assert (info.heads, info.kv_heads, info.head_width, info.ff_width) == (6, 2, 10, 172)
    shapes = tiny.random_llama(vocab=400).tensors.values()
    assert info.parameters == sum(t.size for t in shapes)
    assert info.weight_bytes == 4 * info.parameters
    assert info.kv_bytes >= 3 * 64 * 2 * (10 + 10) * 2
    generation = model.generate([1, 300, 301, 302], 10, temperature=2.0, seed=1)
    list(generation)
    stats = model.stats
    assert (stats.prompt_tokens, stats.cached_tokens, stats.decode_tokens) == (4, 0, len(generation.tokens))
    assert stats.tokens_per_second > 0
    assert stats.prompt_tokens_per_second > 0


def test_no_numpy_is_needed(path: Path) -> None:
    """A fresh process that runs a model and never imports NumPy; logits are then a memoryview."""
    script = (
        "import sys, ruvq\n"
        f"m = ruvq.Model.open({str(path)!r})\n"
        "text = ''.join(m.generate('ab', 10, seed=1))\n"
        "logits = m.logits([1, 2, 3])\n"
        "assert isinstance(logits, memoryview) and logits.shape == (3, 400), logits\n"
        "assert len(m.score([1, 2, 3])) == 2 and float(m.perplexity('abc')) > 1\n"
        "assert 'numpy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env=_environment())


def _environment() -> dict[str, str]:
    import os

    import ruvq

    folder = str(Path(ruvq.__file__).parent.parent)
    return {**os.environ, "PYTHONPATH": folder}
