"""The loop: it learns, resumes to the bit, stops on NaN and without progress; losses, data, teachers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small import source_of, stream, tiny_llama

from ruvq.errors import DataError, MemoryLimitError, ModelError, StorageError, TokenizerError, UsageError
from ruvq.train import QatConfig, RunOptions, Trainer, prepare_qat
from ruvq.train.data import NO_STEP, Batches, Record, Stream, read_records, tokenize, tokenizer_of
from ruvq.train.events import Events
from ruvq.train.losses import kd_loss, reasoning_loss, task_loss, total_loss
from ruvq.train.schedule import Budget, learning_rate_factor
from ruvq.train.teacher import CachedTeacher, ModelTeacher

CONFIG = QatConfig.pit2(batch_size=4, gradient_accumulation=2, ste="standard")


def trainer(
    folder: Path | None = None, steps: int = 6, config: QatConfig = CONFIG, **options: Any
) -> Trainer:
    """A run of a tiny model that imitates itself in floats."""
    model, teacher = tiny_llama(), ModelTeacher(tiny_llama(), 61)
    values = {"window": 16, "steps": steps, "auto_rate": 0.02, "eval_every": 3, "folder": folder, **options}
    return Trainer(
        prepare_qat(model, config), config, RunOptions(**values), stream(), stream(200, seed=1), teacher
    )


def state_of(t: Trainer) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in t.model.state_dict().items()}


def test_training_brings_the_student_nearer_to_its_teacher() -> None:
    t = trainer(steps=30)
    before = t.evaluate()
    t.run()
    after = t.evaluate()
    assert before.kl is not None
    assert after.kl is not None
    assert after.kl < 0.8 * before.kl


@pytest.mark.parametrize("killed", [3, 4])  # after an evaluation, and between two
@pytest.mark.parametrize("changes", [
    {}, {"ste": "lsq"}, {"k_per_layer": True, "search_every": 2}, {"format": "pi-x2"},
])  # fmt: skip
def test_a_run_that_was_killed_ends_as_one_that_was_not(
    tmp_path: Path, changes: dict[str, Any], killed: int
) -> None:
    config = CONFIG.changed(refresh_every=2, **changes)
    whole = trainer(config=config)
    whole.run()
    first = trainer(tmp_path, config=config)
    for _ in range(killed):  # as in `run`, up to the kill
        if first.state.step == 0:
            first.best = state_of(first)
            first._evaluate()
        first.step()
        if first.state.step % 3 == 0:
            first._evaluate()
    first.save()
    second = trainer(tmp_path, config=config)
    assert second.resume()
    assert second.state.step == killed
    second.run()
    assert vars(second.state) == vars(whole.state)
    expected, found = state_of(whole), state_of(second)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_state_that_is_left_is_the_one_that_was_evaluated() -> None:
    """Codes are read back with the weights, not searched again."""
    t = trainer(steps=5, config=CONFIG.changed(search_every=1000), eval_every=2, auto_rate=0.5)
    t.run()
    found = t.evaluate()
    assert found.loss == t.state.best_loss
    assert all(torch.equal(v, t.best[k]) for k, v in t.model.state_dict().items())


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    t = trainer(tmp_path, steps=1)
    t.run()
    with pytest.raises(UsageError, match="another run"):
        trainer(tmp_path, steps=1, config=CONFIG.changed(seed=1)).resume()
    assert not trainer(tmp_path / "none").resume()


def test_a_diverging_run_names_the_layer_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    t = trainer(tmp_path, steps=50)
    t.best = state_of(t)
    t.save()
    good = (tmp_path / "last.pt").read_bytes()
    with torch.no_grad():
        t.model.model.layers[1].input_layernorm.weight.fill_(math.nan)
    with pytest.raises(DataError, match="diverged") as caught:
        t.step()
    assert caught.value.subject == "model.layers.1.input_layernorm.weight"
    assert "last.pt" in caught.value.hint
    assert (tmp_path / "last.pt").read_bytes() == good


def test_memory_that_runs_out_says_what_to_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    t = trainer()

    def fail() -> dict[str, float]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(t, "step", fail)
    with pytest.raises(MemoryLimitError, match="--batch-size"):
        t.run()


def test_it_stops_without_progress_and_keeps_the_best() -> None:
    t = trainer(steps=400, eval_every=1, patience=2, auto_rate=3.0)
    state = t.run()
    assert state.step < 400
    assert t.evaluate().loss == pytest.approx(state.best_loss, abs=1e-6)


def test_events_are_lines_of_json(tmp_path: Path) -> None:
    t = trainer(steps=3, log_every=1)
    with Events(tmp_path / "run.jsonl") as t.events:
        t.run()
    lines = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["event"] == "step"] == [1, 2, 3]
    assert {"loss", "perplexity", "kl", "reasoning", "epoch"} <= set(lines[0])
    assert {"total", "task", "kd", "grad_norm", "learning_rate"} <= set(lines[1])


def test_the_rate_rises_falls_and_ends_at_zero() -> None:
    assert learning_rate_factor(0.05, 0.1) == pytest.approx(0.5)
    assert learning_rate_factor(0.1, 0.1) == pytest.approx(1)
    assert learning_rate_factor(0.55, 0.1) == pytest.approx(0.5)
    assert learning_rate_factor(1, 0.1) == pytest.approx(0)
    budget = Budget(10, seconds=100.0, spent=70.0)
    assert budget.done(2) == pytest.approx(0.7)
    assert Budget(10).done(2) == pytest.approx(0.2)


# ---- losses ----


def logits(seed: int, n: int = 10) -> torch.Tensor:
    return torch.randn(n, 7, generator=torch.Generator().manual_seed(seed))


def test_losses_are_their_definitions() -> None:
    s, t, targets = logits(0), logits(1), torch.arange(10) % 7
    expected = -torch.log_softmax(s, -1)[torch.arange(10), targets].mean()
    torch.testing.assert_close(task_loss(s, targets), expected)
    p, q = (t / 3).softmax(-1), (s / 3).softmax(-1)
    torch.testing.assert_close(kd_loss(s, t, 3.0), 9 * (p * (p / q).log()).sum(-1).mean())
    assert float(kd_loss(t, t, 4.0)) == pytest.approx(0, abs=1e-6)


def test_the_reasoning_loss_is_a_mean_over_steps_not_tokens() -> None:
    s, t = logits(0), logits(1)
    kl = F.kl_div(s.log_softmax(-1), t.log_softmax(-1), reduction="none", log_target=True).sum(-1)
    steps = torch.tensor([NO_STEP, 3, 3, 3, 3, 5, NO_STEP, 9, 9, NO_STEP])
    expected = (kl[1:5].mean() + kl[5] + kl[7:9].mean()) / 3
    torch.testing.assert_close(reasoning_loss(s, t, steps), expected)
    assert float(reasoning_loss(s, t, torch.full((10,), NO_STEP))) == 0


def test_the_total_is_the_weighted_sum() -> None:
    s, t = logits(0, 20).reshape(2, 10, 7), logits(1, 20).reshape(2, 10, 7)
    tokens = torch.randint(0, 7, (2, 10))
    steps = torch.zeros(2, 10, dtype=torch.long)
    found = total_loss(s, t, tokens, steps, QatConfig(alpha_task=2, beta_kd=3, gamma_reasoning=5))
    torch.testing.assert_close(found.total, 2 * found.task + 3 * found.kd + 5 * found.reasoning)
    alone = total_loss(s, None, tokens, steps, QatConfig())
    torch.testing.assert_close(alone.total, alone.task)


# ---- data ----


def test_steps_are_gsm8ks_lines(data_dir: Path, tmp_path: Path) -> None:
    """And a `reasoning` field, and <think> markers."""
    gsm8k = read_records([data_dir / "gsm8k/test.jsonl"])[0]
    spans = [gsm8k.text[a:b] for a, b in gsm8k.steps]
    answer = json.loads((data_dir / "gsm8k/test.jsonl").read_text().splitlines()[0])["answer"]
    assert spans == [line for line in answer.split("####")[0].split("\n") if line.strip()]
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"prompt": "q", "completion": "first\\nsecond\\nso 4", "reasoning": "first\\nsecond"}\n'
        '{"text": "a <think>one\\ntwo</think> three"}\n'
    )
    records = read_records([path])
    assert [[r.text[a:b] for a, b in r.steps] for r in records] == [["first", "second"], ["one", "two"]]


def test_tokens_know_their_step(data_dir: Path) -> None:
    with source_of(data_dir) as source:
        tokenizer = tokenizer_of(source)
    text = "a question\nfirst step\nsecond step\n#### 4"
    record = Record(text, ((11, 21), (22, 33)))
    found = tokenize([record, record], tokenizer, 512)
    half = len(found.tokens) // 2
    for first in (0, 2):
        chosen = slice(0, half) if first == 0 else slice(half, None)
        tokens, steps = found.tokens[chosen], found.steps[chosen]
        assert tokens[0] == tokenizer.bos
        for number, words in ((first, "first step"), (first + 1, "second step")):
            assert words in tokenizer.decode(tokens[steps == number].tolist())
    with pytest.raises(TokenizerError):
        tokenize([record], tokenizer, 100)


@pytest.mark.parametrize("line", ['{"title": "x"}', "[1]", "no json"])
def test_records_without_the_fields_are_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "fine"}\n' + line + "\n")
    with pytest.raises(UsageError) as caught:
        read_records([path])
    assert "line 2" in caught.value.subject
    with pytest.raises(StorageError):
        read_records([tmp_path / "none.txt"])
    (tmp_path / "empty.txt").write_text(" \n")
    with pytest.raises(UsageError, match="no text"):
        read_records([tmp_path / "empty.txt"])


def test_batches_are_a_function_of_seed_and_number() -> None:
    a, b = Batches(stream(), 16, 4, 3), Batches(stream(), 16, 4, 3)
    for number in (20, 0, 7):
        assert np.array_equal(a[number][0], b[number][0])
        assert a[number][0].shape == (4, 16)
    assert not np.array_equal(a[0][0], Batches(stream(), 16, 4, 4)[0][0])
    first = {tuple(row) for n in range(a.per_epoch) for row in a[n][0].tolist()}
    assert len(first) == 4 * a.per_epoch  # an epoch sees no window twice
    with pytest.raises(UsageError, match="too short"):
        Batches(Stream(np.zeros(1, np.int64), np.zeros(1, np.int64)), 16, 4, 0)


# ---- teachers ----


def test_inv_6_the_teacher_is_never_changed() -> None:
    t = trainer(steps=3)
    assert isinstance(t.teacher, ModelTeacher)
    before = t.teacher.digest()
    t.run()
    assert t.teacher.digest() == before
    assert not any(p.requires_grad for p in t.teacher.model.parameters())


def test_a_teacher_of_another_vocabulary_is_refused() -> None:
    with pytest.raises(ModelError, match="vocabulary"):
        ModelTeacher(tiny_llama(), 62)


def test_logits_are_cached_on_disk(tmp_path: Path) -> None:
    tokens = torch.randint(0, 61, (3, 8), generator=torch.Generator().manual_seed(0))
    teacher = ModelTeacher(tiny_llama(), 61)
    first = CachedTeacher(tmp_path / "logits", teacher, 5, 8, 61)
    expected = teacher.logits(tokens)
    torch.testing.assert_close(first.logits(tokens), expected, rtol=1e-3, atol=1e-2)
    again = CachedTeacher(tmp_path / "logits", None, 5, 8, 61)
    assert torch.equal(again.logits(tokens.flip(0)), first.logits(tokens).flip(0))
    with pytest.raises(UsageError, match="aren't among"):
        again.logits(tokens + 1)
    with pytest.raises(UsageError, match="another run"):
        CachedTeacher(tmp_path / "logits", None, 6, 8, 61)
