"""Whatever stands in a header or configuration, the answer is a model or a typed error, quickly."""

from __future__ import annotations

import contextlib
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ruvq.errors import RuvqError
from ruvq.sources import open_source
from ruvq.sources.huggingface import parameters_from_config
from ruvq.sources.safetensors_file import SafetensorsFile
from sources.tiny_models import hf_config, llama2c_bytes, random_weights, write_huggingface, write_tokenizer

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)
ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "F16", "I64", "", 3]) | JSON,
        "shape": st.lists(st.integers(-1, 4) | JSON, max_size=4) | JSON,
        "data_offsets": st.lists(st.integers(-4, 40) | JSON, max_size=3) | JSON,
    },
)
CONFIG_KEYS = [
    *hf_config(),
    "rope_scaling",
    "rope_parameters",
    "head_dim",
    "sliding_window",
    "attention_bias",
]
ROPE = st.fixed_dictionaries(
    {},
    optional={
        "rope_type": st.sampled_from(["linear", "llama3", "default", "yarn"]) | JSON,
        "rope_theta": JSON,
        "factor": JSON,
        "low_freq_factor": JSON,
        "high_freq_factor": JSON,
        "original_max_position_embeddings": JSON,
    },
)
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@QUICK
@given(
    header=st.dictionaries(st.text(max_size=4) | st.just("__metadata__"), ENTRY | JSON, max_size=3),
    data=st.integers(0, 48),
)
def test_any_header_of_safetensors(tmp_path: Path, header: dict[str, Any], data: int) -> None:
    text = json.dumps(header).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(data))
    with contextlib.suppress(RuvqError):
        file = SafetensorsFile(path)
        assert sum(e.nbytes for e in file.entries.values()) == data
        file.close()


@QUICK
@given(changes=st.dictionaries(st.sampled_from(CONFIG_KEYS), JSON | ROPE | st.integers(0, 99), max_size=4))
def test_any_configuration(changes: dict[str, Any]) -> None:
    with contextlib.suppress(RuvqError):
        parameters = parameters_from_config(hf_config(**changes))
        assert len(parameters.shapes()) > 2
        assert list(parameters.metadata())


@QUICK
@given(at=st.integers(0, 27), value=st.integers(0, 255), cut=st.integers(0, 40))
def test_any_header_of_llama2c(tmp_path: Path, at: int, value: int, cut: int) -> None:
    content = bytearray(llama2c_bytes(random_weights()))
    content[at] = value
    path = tmp_path / "model.bin"
    path.write_bytes(content[: len(content) - cut])
    with contextlib.suppress(RuvqError):
        open_source(path, write_tokenizer(tmp_path / "tok.bin")).close()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tok.bin"])
def test_a_flipped_byte_anywhere_in_the_first_kilobyte(tmp_path: Path, name: str) -> None:
    path = write_huggingface(tmp_path / "m", random_weights()) / name
    whole = path.read_bytes()
    for at in range(0, min(len(whole), 1024), 3):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
        with contextlib.suppress(RuvqError):
            open_source(path.parent).close()
