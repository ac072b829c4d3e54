"""PEFT's format: adapter_config.json beside adapter_model.safetensors.

Read are plain LoRA adapters of linear layers, with rank and alpha by pattern and rank-stabilised scaling;
anything else that changes what an adapter does is refused by name.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileFormatError, StorageError
from ..sources.files import read_json
from ..sources.safetensors_file import SafetensorsFile
from .lora import Lora, Matrix, checked_pair

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
MAX_NAME, MAX_REPEATS, MAX_ALPHA = 256, 2, 1e9  # of what a file may say
_PREFIX = "base_model.model."
_TENSOR = re.compile(r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<part>[AB])(?:\.default)?\.weight")
_UNKNOWN = {"use_dora": False, "fan_in_fan_out": False, "modules_to_save": None, "bias": "none"}


def _setting(config: Mapping[str, Any], key: str, kind: Any, fallback: Any, where: Path) -> Any:
    value = config.get(key, fallback)
    value = fallback if value is None else value
    if isinstance(value, bool) != (kind is bool) or not isinstance(value, kind):
        raise FileFormatError(
            "a setting of the adapter is unusable", subject=f"{where}: {key}", expected=str(kind),
            actual=repr(value)[:60],
        )  # fmt: skip
    return value


def _check_kind(config: Mapping[str, Any], where: Path) -> None:
    wanted = {"peft_type": "LORA", **_UNKNOWN}
    for key, value in wanted.items():
        found = config.get(key, value)
        if found != value and not (value is None and not found):
            raise FileFormatError(
                "this kind of adapter can't be used", subject=f"{where}: {key}", expected=str(value),
                actual=str(found)[:60], hint="plain LoRA adapters of linear layers are supported",
            )  # fmt: skip


def _number(value: Any, subject: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > MAX_ALPHA:
        raise FileFormatError(
            "a setting of the adapter is unusable", subject=subject,
            expected=f"a number of at most {MAX_ALPHA:.0e}", actual=repr(value)[:60],
        )  # fmt: skip
    return float(value)


def _pattern(text: str, where: Path) -> re.Pattern[str]:
    """PEFT's rule: an expression for the module's name or its end, behind a dot. What could take long to
    match is refused: the file may be anyone's."""
    simple = len(text) <= MAX_NAME and len(re.findall(r"[*+?{]", text)) <= MAX_REPEATS
    try:
        if simple and not re.search(r"\)[*+?{]", text):
            return re.compile(rf"(.*\.)?({text})")
    except (re.error, OverflowError):
        pass
    raise FileFormatError(
        "a pattern of the adapter is unusable", subject=f"{where}: alpha_pattern",
        expected=f"a simple expression with at most {MAX_REPEATS} repeats, none of a group",
        actual=text[:60], hint="name the modules instead",
    )  # fmt: skip


def _alphas(config: Mapping[str, Any], modules: Iterable[str], where: Path) -> dict[str, float]:
    """Module -> its alpha; the first pattern that fits prevails."""
    fallback = _number(_setting(config, "lora_alpha", (int, float), 8, where), f"{where}: lora_alpha")
    patterns = [
        (_pattern(text, where), _number(value, f"{where}: alpha_pattern"))
        for text, value in _setting(config, "alpha_pattern", dict, {}, where).items()
    ]
    return {m: next((a for p, a in patterns if p.fullmatch(m)), fallback) for m in modules}


def read_folder(folder: str | os.PathLike[str]) -> Lora:
    """The adapter in a folder. StorageError, FileFormatError, DataError."""
    where = Path(folder)
    if not (where / WEIGHTS).is_file():
        pickled = (where / "adapter_model.bin").is_file()
        raise StorageError(
            "this folder holds no adapter", subject=str(where), expected=f"{CONFIG} and {WEIGHTS}",
            actual="adapter_model.bin, a pickle" if pickled else f"no {WEIGHTS}",
            hint="save it again with safetensors" if pickled else "give the folder that PEFT has saved",
        )  # fmt: skip
    config = read_json(where / CONFIG)
    _check_kind(config, where / CONFIG)
    stabilised = _setting(config, "use_rslora", bool, False, where / CONFIG)
    found = _read_tensors(where / WEIGHTS)
    alphas = _alphas(config, found, where / CONFIG)
    pairs = {}
    for module, parts in found.items():
        if len(parts) != 2:
            raise FileFormatError(
                "an adapter has half a pair", subject=f"{where / WEIGHTS}: {module}",
                expected="lora_A and lora_B", actual=f"lora_{''.join(parts)}",
            )  # fmt: skip
        a, b = parts["A"], parts["B"]
        rank = max(len(a), 1)
        scale = alphas[module] / (math.sqrt(rank) if stabilised else rank)
        pairs[module] = checked_pair(module, a, b, scale, str(where / WEIGHTS))
    if not pairs:
        raise FileFormatError(
            "the adapter is empty", subject=str(where / WEIGHTS), expected="pairs", actual="none"
        )
    return Lora(pairs, base=str(config.get("base_model_name_or_path") or ""))


def _read_tensors(path: Path) -> dict[str, dict[str, Matrix]]:
    """Module → part → matrix."""
    out: dict[str, dict[str, Matrix]] = {}
    file = SafetensorsFile(path)
    try:
        for name, entry in file.entries.items():
            match = _TENSOR.fullmatch(name)
            if match is None or len(name) > MAX_NAME or len(entry.shape) != 2 or 0 in entry.shape:
                raise FileFormatError(
                    "a tensor that ruvq can't apply", subject=f"{path}: {name}",
                    expected="lora_A.weight and lora_B.weight of linear layers",
                    actual=f"shape {list(entry.shape)}",
                    hint="embeddings, DoRA and saved modules are not supported",
                )  # fmt: skip
            raw = np.frombuffer(file.rows(name, 0, entry.shape[0]), np.float32)
            out.setdefault(match["module"], {})[match["part"]] = raw.reshape(entry.shape).copy()
    finally:
        file.close()
    return out


def write_folder(folder: str | os.PathLike[str], lora: Lora) -> None:
    """Writes both files, as `peft.PeftModel.from_pretrained` reads them. StorageError."""
    target = Path(folder)
    tensors: dict[str, Matrix] = {}
    for module, pair in lora.pairs.items():
        tensors[f"{_PREFIX}{module}.lora_A.weight"] = pair.a
        tensors[f"{_PREFIX}{module}.lora_B.weight"] = pair.b
    files = {WEIGHTS: _safetensors(tensors), CONFIG: json.dumps(_config(lora), indent=2).encode() + b"\n"}
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            part = target / f".{name}.part"
            part.write_bytes(data)
            os.replace(part, target / name)
    except OSError as error:
        raise StorageError(
            "the adapter can't be written", subject=str(target), actual=error.strerror or str(error)
        ) from error


def _config(lora: Lora) -> dict[str, Any]:
    ranks = {module: pair.rank for module, pair in lora.pairs.items()}
    alphas = {module: _short(pair.scale * pair.rank) for module, pair in lora.pairs.items()}
    rank, alpha = (Counter(values.values()).most_common(1)[0][0] for values in (ranks, alphas))
    return {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": lora.base, "r": rank,
        "lora_alpha": alpha, "rank_pattern": {m: r for m, r in ranks.items() if r != rank},
        "alpha_pattern": {m: a for m, a in alphas.items() if a != alpha},
        "target_modules": _targets(lora), "bias": "none", "lora_dropout": 0.0, "fan_in_fan_out": False,
        "inference_mode": True,
    }  # fmt: skip


def _short(value: float) -> float | int:
    """6.0 as 6, and what differs only by rounding as one number."""
    value = round(value, 9)
    return int(value) if value.is_integer() else value


def _targets(lora: Lora) -> list[str]:
    """The last parts of the names where every layer has the same ones, else whole names."""
    layers: dict[str, set[str]] = {}
    for module in lora.pairs:
        layer, _, last = module.rpartition(".")
        layers.setdefault(last, set()).add(re.sub(r"\.[a-z_]+$", "", layer))
    same = len({frozenset(names) for names in layers.values()}) == 1
    return sorted(layers) if same else sorted(lora.pairs)


def _safetensors(tensors: Mapping[str, Matrix]) -> bytes:
    """A length, a JSON header, and the data without gaps."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at, data = 0, []
    for name, values in tensors.items():
        data.append(np.ascontiguousarray(values, "<f4").tobytes())
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [at, at + len(data[-1])]}
        at += len(data[-1])
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(data)
