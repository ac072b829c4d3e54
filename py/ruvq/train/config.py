"""What a training run does, as one frozen, validated value; to and from TOML. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..errors import UsageError, VersionError
from ..formats.transform import CUTS, Transform
from ..settings_file import SECTIONS, VERSION, Sections, parse, read, to_toml

STES = ("standard", "clipped", "lsq", "ewgs")
GRANULARITIES = ("tensor", "channel", "block")
MIXED = ("pi-x3", "pi-x2")  # 128 and 64 states, where the others have 4
TRELLIS = ("pi-t3", "pi-t2", *MIXED)
GRIDS = ("pi-q3", "pi-q2", "ternary", "pi-ternary")
REFERENCES = ("uniform", "stretched")  # no format of their own: the trained values are stored as floats
FORMATS = (*TRELLIS, *GRIDS, *REFERENCES)
KS = (2, 5)  # the least and the largest divisor of pi
BITS = {
    "pi-t3": 3, "pi-t2": 2, "pi-x3": 3, "pi-x2": 2, "pi-q3": 3, "pi-q2": 2, "ternary": 2, "pi-ternary": 2,
}  # fmt: skip
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")

# what the presets set beside the format
PRESETS: dict[str, dict[str, Any]] = {"pi-q3": {"k": 4}, "pi-q2": {"k": 3}, "pi-ternary": {"k": 4}}

# where each field stands in ruvq.toml; `embeddings` and `incoherence` are written as the commands' flags are
FIELDS = {
    "quantization": ("format", "bits", "k", "embeddings"),
    "incoherence": ("incoherence", "seed"),
    "qat": tuple(key for key in SECTIONS["qat"] if key != "enabled"),
    "distillation": ("alpha_task", "beta_kd", "gamma_reasoning", "temperature"),
}


@dataclass(frozen=True)
class QatConfig:
    """Settings of quantization-aware training, checked on construction (UsageError).

    `format`: one of FORMATS; `bits`: 2 to 8, only "uniform" and "stretched" leave a choice; `k`: divisor of
    pi (None: the format's default; the trellis searches it for every 64 weights); `k_per_layer`: the trellis
    searches one k for each matrix instead, with the scales; `granularity` of the reference grids' steps;
    `embeddings`: quantize token_embd (and the output) too; `activation_bits`: round what linear layers
    multiply, as the engine does with 8 (0: don't); `incoherence`: "auto" is Hadamard for the trellis.
    `ste`: how gradients pass rounding; "lsq" learns the steps too. `refresh_every`: optimiser steps between
    two assignments of codes; `search_every`: between two searches of the scales where they aren't learned.
    `learning_rate` of the weights, `quantizer_learning_rate` of the steps; `warmup`: share of all steps.
    `alpha_task`, `beta_kd`, `gamma_reasoning`: weights of the losses; `temperature` of the distillation.
    """

    format: str = "uniform"
    bits: int = 4
    k: int | None = None
    k_per_layer: bool = False
    granularity: str = "channel"
    embeddings: bool = True
    incoherence: str = "auto"
    seed: int = 0
    activation_bits: int = 0
    ste: str = "standard"
    ewgs_delta: float = 0.1
    refresh_every: int = 1
    search_every: int = 16
    learning_rate: float = 1e-5
    quantizer_learning_rate: float = 1e-4
    epochs: int = 3
    batch_size: int = 4
    gradient_accumulation: int = 8
    warmup: float = 0.05
    weight_decay: float = 0.0
    use_lora: bool = False
    lora_rank: int = 16
    lora_alpha: float = 32.0
    lora_init: str = "zero"
    target_modules: tuple[str, ...] = ATTENTION
    alpha_task: float = 1.0
    beta_kd: float = 0.5
    gamma_reasoning: float = 2.0
    temperature: float = 4.0
    version: int = VERSION

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise VersionError(
                "the settings are of another version", subject="version", expected=str(VERSION),
                actual=str(self.version), hint="write them again with this ruvq",
            )  # fmt: skip
        object.__setattr__(self, "target_modules", tuple(self.target_modules))
        self._check_types()
        _one_of("format", self.format, FORMATS)
        _one_of("ste", self.ste, STES)
        _one_of("granularity", self.granularity, GRANULARITIES)
        _one_of("incoherence", self.incoherence, ("auto", "none", *CUTS))
        _one_of("lora_init", self.lora_init, ("zero", "error"))
        if self.format in BITS:
            object.__setattr__(self, "bits", BITS[self.format])
        _within("bits", self.bits, 2, 8)
        if self.activation_bits:
            _within("activation_bits", self.activation_bits, 4, 8)
        if self.k is not None:
            _within("k", self.k, *KS)
        if self.k_per_layer and (self.k is not None or self.format not in TRELLIS):
            raise UsageError(
                "there is no k to choose for each layer", subject="k_per_layer",
                expected=f"{', '.join(TRELLIS)}, and no k", actual=f"{self.format}, k = {self.k}",
                hint="in a grid the step, alpha pi / k, is one number: any k gives the same file",
            )  # fmt: skip
        _within("seed", self.seed, 0, 2**64 - 1)
        _within("ewgs_delta", self.ewgs_delta, 0, 0.99)
        _within("temperature", self.temperature, 0.01, 100)
        _within("warmup", self.warmup, 0, 1)
        for name in ("refresh_every", "search_every", "epochs", "batch_size", "gradient_accumulation",
                     "lora_rank"):  # fmt: skip
            _within(name, getattr(self, name), 1, 2**31 - 1)
        for name in ("learning_rate", "quantizer_learning_rate", "lora_alpha"):
            if getattr(self, name) <= 0:
                raise _refusal(name, "a number above 0", getattr(self, name))
        for name in ("weight_decay", "alpha_task", "beta_kd", "gamma_reasoning"):
            _within(name, getattr(self, name), 0, 1e6)

    def _check_types(self) -> None:
        for field in fields(self):
            value, default = getattr(self, field.name), field.default
            if field.name == "k":
                ok = value is None or (isinstance(value, int) and not isinstance(value, bool))
            elif isinstance(default, bool):
                ok = isinstance(value, bool)
            elif isinstance(default, float):
                ok = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
            elif isinstance(default, int):
                ok = isinstance(value, int) and not isinstance(value, bool)
            elif isinstance(default, tuple):
                ok = bool(value) and all(isinstance(v, str) for v in value)
            else:
                ok = isinstance(value, str)
            if not ok:
                raise _refusal(field.name, f"as {default!r}", value)

    @property
    def turn(self) -> Transform | None:
        """What rows go through before they are quantized."""
        if self.incoherence == "auto":
            return Transform(self.seed) if self.format in TRELLIS else None
        return None if self.incoherence == "none" else Transform(self.seed, self.incoherence)

    @property
    def learns_steps(self) -> bool:
        """Whether the scales have gradients."""
        return self.ste == "lsq"

    def changed(self, **changes: Any) -> QatConfig:
        """A copy with other values."""
        return replace(self, **changes)

    @classmethod
    def preset(cls, format: str, **changes: Any) -> QatConfig:
        """The preset of a format's name; names match as everywhere: whatever their case, `-` and `_`."""
        name = format.lower().replace("_", "-")
        return cls(**{"format": name, **PRESETS.get(name, {}), **changes})

    @classmethod
    def piq3(cls, **changes: Any) -> QatConfig:
        """3 bits, the scalar grid: step = alpha pi / 4."""
        return cls.preset("pi-q3", **changes)

    @classmethod
    def piq2(cls, **changes: Any) -> QatConfig:
        """2 bits, the scalar grid: step = alpha pi / 3."""
        return cls.preset("pi-q2", **changes)

    @classmethod
    def pit3(cls, **changes: Any) -> QatConfig:
        """3 bits, the trellis after Hadamard."""
        return cls.preset("pi-t3", **changes)

    @classmethod
    def pit2(cls, **changes: Any) -> QatConfig:
        """2 bits, the trellis after Hadamard."""
        return cls.preset("pi-t2", **changes)

    @classmethod
    def pix3(cls, **changes: Any) -> QatConfig:
        """3 bits, the mixed trellis of 128 states after Hadamard."""
        return cls.preset("pi-x3", **changes)

    @classmethod
    def pix2(cls, **changes: Any) -> QatConfig:
        """2 bits, the mixed trellis of 64 states after Hadamard."""
        return cls.preset("pi-x2", **changes)

    @classmethod
    def ternary(cls, **changes: Any) -> QatConfig:
        """-1, 0, 1 times one scale a block."""
        return cls.preset("ternary", **changes)

    def sections(self) -> Sections:
        """The settings as they stand in `ruvq.toml`."""
        out: Sections = {}
        for section, names in FIELDS.items():
            found = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
            out[section] = {k: list(v) if isinstance(v, tuple) else v for k, v in found.items()}
        out["quantization"]["embeddings"] = "same" if self.embeddings else "f16"
        if self.format in BITS:  # they say how many
            del out["quantization"]["bits"]
        method = out["incoherence"].pop("incoherence")
        turn = {"enabled": False} if method == "none" else {"enabled": True, "method": method}
        out["incoherence"] = {**turn, **out["incoherence"]}
        return out

    def to_toml(self) -> str:
        """The sections of `ruvq.toml`."""
        return f"version = {self.version}\n\n{to_toml(self.sections())}\n"

    @classmethod
    def from_toml(cls, text: str) -> QatConfig:
        """Settings from TOML; what is for other commands is checked and left alone. UsageError,
        VersionError."""
        return cls.from_sections(parse(text, "settings"))

    @classmethod
    def from_sections(cls, found: Mapping[str, Mapping[str, Any]]) -> QatConfig:
        """Settings from the file's sections."""
        values: dict[str, Any] = {}
        for section, names in FIELDS.items():
            values |= {k: v for k, v in found.get(section, {}).items() if k in names}
        if "embeddings" in values:
            _one_of("embeddings", values["embeddings"], ("same", "f16"))
            values["embeddings"] = values["embeddings"] == "same"
        turn = found.get("incoherence", {})
        if turn:
            values["incoherence"] = turn.get("method", "hadamard") if turn.get("enabled", True) else "none"
        if values.get("learning_rate") == "auto":  # of a run, not of these settings
            del values["learning_rate"]
        return cls(**values)

    @classmethod
    def from_file(cls, path: str | Path) -> QatConfig:
        """Settings from a TOML file. StorageError, UsageError, VersionError."""
        return cls.from_sections(read(Path(path)))


def _refusal(name: str, expected: str, actual: Any) -> UsageError:
    return UsageError("a setting can't be used", subject=name, expected=expected, actual=f"{actual!r:.60}")


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise _refusal(name, ", ".join(choices), value)


def _within(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise _refusal(name, f"{least:g} to {most:g}", value)
