"""Settings: defaults, presets, validation, TOML."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from ruvq.errors import UsageError, VersionError
from ruvq.train import QatConfig


def test_the_defaults_are_those_that_were_asked_for() -> None:
    c = QatConfig()
    assert (c.bits, c.learning_rate, c.quantizer_learning_rate) == (4, 1e-5, 1e-4)
    assert (c.lora_rank, c.lora_alpha, c.target_modules) == (16, 32, ("q_proj", "k_proj", "v_proj", "o_proj"))
    assert (c.alpha_task, c.beta_kd, c.gamma_reasoning, c.temperature) == (1, 0.5, 2, 4)


@pytest.mark.parametrize(
    ("preset", "format", "bits", "k", "hadamard"),
    [
        (QatConfig.piq3, "pi-q3", 3, 4, False),
        (QatConfig.piq2, "pi-q2", 2, 3, False),
        (QatConfig.pit3, "pi-t3", 3, None, True),
        (QatConfig.pit2, "pi-t2", 2, None, True),
        (QatConfig.pix3, "pi-x3", 3, None, True),
        (QatConfig.pix2, "pi-x2", 2, None, True),
        (QatConfig.ternary, "ternary", 2, None, False),
    ],
)
def test_presets(preset: Any, format: str, bits: int, k: int | None, hadamard: bool) -> None:
    c = preset()
    assert (c.format, c.bits, c.k, c.turn is not None) == (format, bits, k, hadamard)
    assert preset(seed=3).seed == 3


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        QatConfig().bits = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    "changes",
    [
        {"bits": 9}, {"bits": 1}, {"k": 6}, {"format": "q4"}, {"ste": "magic"}, {"learning_rate": 0.0},
        {"learning_rate": float("nan")}, {"lora_rank": 0}, {"temperature": 0.0}, {"warmup": 2.0},
        {"target_modules": ()}, {"bits": 2.5}, {"embeddings": 1}, {"beta_kd": -1.0}, {"ewgs_delta": 1.0},
        {"seed": -1}, {"granularity": "token"}, {"lora_init": "svd"},
    ],
)  # fmt: skip
def test_bad_settings_are_refused_by_name(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        QatConfig(**changes)
    assert caught.value.subject == next(iter(changes))


def test_toml_and_back() -> None:
    c = QatConfig.pit2(seed=2**63, ste="lsq", target_modules=("up_proj",), temperature=1.5, lora_init="error")
    assert QatConfig.from_toml(c.to_toml()) == c
    assert QatConfig.from_toml(QatConfig().to_toml()) == QatConfig()


def test_the_seeds_sections_are_understood() -> None:
    text = """
    [quantization]
    format = "pi-q3"
    k = 4
    mixed_constants = false
    [qat]
    enabled = true
    epochs = 2
    learning_rate = 1e-5
    [distillation]
    teacher_path = "models/teacher.gguf"
    beta_kd = 0.25
    [moe]
    cache_bonus = 0.5
    """
    c = QatConfig.from_toml(text)
    assert (c.format, c.k, c.epochs, c.beta_kd) == ("pi-q3", 4, 2, 0.25)


def test_unknown_keys_versions_and_no_toml() -> None:
    with pytest.raises(UsageError, match="unknown key"):
        QatConfig.from_toml("[qat]\nlearning_rte = 1e-5\n")
    with pytest.raises(VersionError):
        QatConfig.from_toml("version = 2\n")
    with pytest.raises(UsageError, match="isn't TOML"):
        QatConfig.from_toml("[qat\n")
    with pytest.raises(UsageError):
        QatConfig.from_toml("qat = 1\n")
