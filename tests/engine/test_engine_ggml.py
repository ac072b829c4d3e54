"""Files whose tensors are in ggml's block formats, as other tools write them, run as they are."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import gguf
from engine import tiny
from formats import kernels, oracle, oracle_ggml
from ruvq import Model
from ruvq.core import CONSTANTS
from ruvq.gguf import GGUFFile

TOKENS = np.random.default_rng(5).integers(0, 131, 40).tolist()
SIZES = {"width": 256, "heads": 4, "kv_heads": 2, "ff": 512, "layers": 2}
# as the mixes of other tools: embeddings, and the matrices of a layer in turn
MIXES = {
    "q4_k_m": ["q6_k", "q4_k", "q4_k", "q6_k", "q4_k", "q4_k", "q4_k", "q6_k"],
    "q4_0": ["q6_k", "q4_0", "q4_0", "q4_0", "q4_0", "q4_0", "q4_0", "q4_1"],
    "q3_k": ["q5_k", "q3_k", "q3_k", "q2_k", "q3_k", "q3_k", "q3_k", "q5_k"],
    "iq4": ["q5_0", "iq4_xs", "iq4_nl", "q5_1", "iq4_xs", "iq4_nl", "mxfp4", "iq4_xs"],
    "few bits": ["tq2_0", "tq2_0", "tq1_0", "nvfp4", "tq2_0", "tq1_0", "tq2_0", "nvfp4"],
    "codebooks": ["iq3_s", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq1_s", "iq1_m", "iq3_s"],
    "others": ["q8_k", "q8_k", "q8_k", "q1_0", "q8_k", "q8_k", "q8_k", "q1_0"],
}


def small_rows(name: str, rows: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Random rows (rows, row_bytes) with scales that keep the activations of a model in range."""
    data = kernels.random_rows(name, rows, width, rng)
    blocks = np.frombuffer(data, np.uint8).reshape(-1, oracle_ggml.LAYOUTS[name].bytes).copy()
    for at in oracle_ggml.LAYOUTS[name].exponents:
        if name not in ("mxfp4", "q8_k", "iq1_m"):
            blocks[:, at] = rng.choice([0x0C, 0x8C, 0x10, 0x90], len(blocks))
    if name == "mxfp4":
        blocks[:, 0] = rng.integers(118, 122, len(blocks))
    return blocks.reshape(rows, -1)


@pytest.fixture(params=MIXES)
def files(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """A model in a mix of formats, and one in f32 with the same weights, decoded by the oracle."""
    rng, mix = np.random.default_rng(11), MIXES[request.param]
    model = tiny.random_llama(**SIZES)
    names = tiny.matrix_names(model)
    formats = {name: mix[n if n == 0 else (n - 1) % 7 + 1] for n, name in enumerate(names)}
    assert set(formats.values()) == set(mix)
    packed = {n: small_rows(f, *model.tensors[n].shape, rng) for n, f in formats.items()}
    quantized = write_packed(tmp_path / "quantized.gguf", model, formats, packed)
    for name, format in formats.items():
        rows = [oracle.decode(format, row.tobytes(), model.tensors[name].shape[1]) for row in packed[name]]
        model.tensors[name] = np.stack(rows)
    return quantized, tiny.write(tmp_path / "floats.gguf", model)


def write_packed(
    path: Path, model: tiny.Llama, formats: dict[str, str], packed: dict[str, np.ndarray]
) -> Path:
    """Through the gguf package: an independent writer."""
    writer = gguf.GGUFWriter(path, "llama")
    for key, entry in tiny.metadata(model).items():
        tiny._add(writer, key, *entry)
    for name, values in model.tensors.items():
        if name in packed:
            kind = gguf.GGMLQuantizationType[formats[name].upper()]
            writer.add_tensor(name, packed[name], raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def run(path: Path, **options: bool) -> tuple[np.ndarray, list[int]]:
    with Model.open(path, hashes=True, **options) as model:  # type: ignore[arg-type]
        return np.array(model.logits(TOKENS)), model.hashes()


def test_logits_are_those_of_the_same_weights_in_floats(files: tuple[Path, Path]) -> None:
    """Nothing but the rounding of activations to int8 lies between the two."""
    found, expected = run(files[0])[0].ravel(), run(files[1])[0].ravel()
    cosine = found @ expected / np.linalg.norm(found) / np.linalg.norm(expected)
    assert cosine > 0.995
    assert not np.array_equal(found, expected)


def test_all_kernels_and_webassembly_give_the_same_bits(files: tuple[Path, Path], repository: Path) -> None:
    logits, hashes = run(files[0])
    scalar, scalar_hashes = run(files[0], scalar=True)
    assert (logits.tobytes(), hashes) == (scalar.tobytes(), scalar_hashes)
    node, script = shutil.which("node"), Path(__file__).with_name("step.mjs")
    assert node, "Node.js is needed to run the module"
    for kernels_flag in (0, CONSTANTS["RQ_MODEL_SCALAR"]):
        flags = str(CONSTANTS["RQ_MODEL_HASHES"] | kernels_flag)
        command = [node, str(script), str(repository / "web" / "ruvq.wasm"), str(files[0]), flags]
        assert json.loads(subprocess.check_output([*command, json.dumps(TOKENS)], timeout=120)) == hashes


def test_they_are_listed_by_name_and_as_runnable(files: tuple[Path, Path]) -> None:
    with GGUFFile.open(files[0]) as file:
        matrices = [t for t in file.tensors if len(t.shape) == 2]
        assert {t.format for t in matrices} <= set(oracle.GGML)
        assert all(t.runnable for t in matrices)
