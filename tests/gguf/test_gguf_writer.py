"""Writing: files that every GGUF tool lists, reproducible to the byte, complete or not there at all."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ruvq import errors
from ruvq.gguf import GGUFFile, GGUFWriter, Recipe, TensorSpec, Typed, write_gguf
from ruvq.gguf.recipe import calibration_digest

METADATA: dict[str, Any] = {
    "general.name": "tiny",
    "llama.block_count": 3,
    "llama.rope.freq_base": 10000.0,
    "tokenizer.ggml.tokens": ["a", "é", ""],
    "tokenizer.ggml.scores": [0.0, -1.5, 2.0],
    "tokenizer.ggml.token_type": [1, 1, 1],
    "tokenizer.ggml.add_bos_token": True,
    "wide": Typed(7, "u64"),
    "narrow": Typed([1, 2], "u8"),
    "empty": "",
}
RECIPE = Recipe(command="ruvq quantize m", seed=5, timestamp="2026-01-02T03:04:05Z")
SPECS = [
    TensorSpec("norm", "f32", (64,)),
    TensorSpec("up", "pi-t3", (3, 320)),
    TensorSpec("down", "q8_0", (2, 64)),
    TensorSpec("experts", "ternary", (2, 3, 64)),
    TensorSpec("half", "f16", (5, 7)),
]


def contents(spec: TensorSpec) -> bytes:
    """Sound data: zero scales with any codes, where the format has them."""
    if spec.type in ("f32", "f16"):
        return bytes(i % 3 for i in range(spec.nbytes))
    return bytes(spec.nbytes)


def write(path: Path, specs: list[TensorSpec] = SPECS, **options: Any) -> Path:
    options.setdefault("recipe", RECIPE)
    write_gguf(path, "llama", METADATA, [(s, lambda s=s: contents(s)) for s in specs], **options)
    return path


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf")
    assert leftovers(tmp_path) == ["m.gguf"]
    with GGUFFile.open(path) as file:
        assert file.architecture == "llama"
        assert file.layout_version == 1
        for key, value in METADATA.items():
            expected = value.value if isinstance(value, Typed) else value
            assert file.metadata[key] == expected, key
        assert file.metadata.typed("wide").type == "u64"
        assert file.metadata.typed("narrow").type == "u8"
        for spec, tensor in zip(SPECS, file.tensors, strict=True):
            assert (tensor.name, tensor.format, tensor.shape) == (spec.name, spec.type, spec.shape)
            assert bytes(file.tensor_bytes(spec.name)) == contents(spec)
            assert tensor.runnable
        report = file.verify()
        assert report.ok
        assert report.header_digest
        assert report.tensor_digests == len(SPECS)


def test_the_gguf_package_lists_every_tensor(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    reader = gguf.GGUFReader(write(tmp_path / "m.gguf"))
    assert [t.name for t in reader.tensors] == [s.name for s in SPECS]
    by_name = {t.name: t for t in reader.tensors}
    assert by_name["up"].tensor_type.name == "I8"
    assert by_name["up"].shape.tolist() == [98 + 26, 3]  # row_bytes, rows
    assert by_name["down"].data.tobytes() == contents(SPECS[2])
    assert reader.fields["wide"].contents() == 7


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    assert write(tmp_path / "a.gguf").read_bytes() == write(tmp_path / "b.gguf").read_bytes()


def test_the_header_digest_is_what_the_page_says(tmp_path: Path) -> None:
    """docs/container.md: of all bytes before the data, the digest's own 64 characters taken as zeros."""
    path = write(tmp_path / "m.gguf")
    with GGUFFile.open(path) as file:
        recorded = file.metadata["ruvq.sha256.header"]
        start = file.header["data_start"]
        digests = file.metadata["ruvq.sha256.tensors"]
    data = path.read_bytes()
    zeroed = data[:start].replace(recorded.encode(), b"0" * 64)
    assert hashlib.sha256(zeroed).hexdigest() == recorded
    assert digests == [hashlib.sha256(contents(s)).hexdigest() for s in SPECS]


@pytest.mark.parametrize("alignment", [8, 64, 4096])
def test_other_alignments(alignment: int, tmp_path: Path) -> None:
    with GGUFFile.open(write(tmp_path / "m.gguf", alignment=alignment)) as file:
        assert file.alignment == alignment
        assert all(t.offset % alignment == 0 for t in file.tensors)
        assert file.verify().ok


def test_tensors_may_come_in_pieces_and_as_arrays(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    spec = TensorSpec("a", "f32", (4, 8))
    values = numpy.arange(32, dtype=numpy.float32).reshape(4, 8)
    write_gguf(tmp_path / "whole.gguf", "llama", {}, [(spec, lambda: values)])
    write_gguf(tmp_path / "rows.gguf", "llama", {}, [(spec, lambda: iter(values))])
    assert (tmp_path / "whole.gguf").read_bytes() == (tmp_path / "rows.gguf").read_bytes()
    with pytest.raises(errors.UsageError, match="contiguous"):
        write_gguf(
            tmp_path / "turned.gguf", "llama", {}, [(TensorSpec("a", "f32", (8, 4)), lambda: values.T)]
        )
    assert leftovers(tmp_path) == ["rows.gguf", "whole.gguf"]


def test_the_model_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    """96 MB of weights, 4 MB at a time: Python never holds more than two tensors."""
    specs = [TensorSpec(f"t{i}", "f32", (1024, 1024)) for i in range(24)]
    tracemalloc.start()
    try:
        write_gguf(tmp_path / "m.gguf", "llama", {}, [(s, lambda: bytes(4 << 20)) for s in specs])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * (4 << 20) + (1 << 20)


# ---- INV-5 and INV-7 ----


def test_inv_5_calibration_provenance_is_in_the_file(tmp_path: Path) -> None:
    texts = ["one", "two", "drei"]
    recipe = Recipe(
        command="ruvq quantize model --calibration c.jsonl",
        seed=2**63,
        calibration=calibration_digest(texts),
        samples=len(texts),
        source="model",
        timestamp="2026-01-02T03:04:05Z",
        versions={"numpy": "2"},
        options={"incoherence": "hadamard"},
    )
    with GGUFFile.open(write(tmp_path / "m.gguf", recipe=recipe)) as file:
        found = json.loads(file.metadata["ruvq.recipe"])
    assert found["calibration"] == calibration_digest(texts)
    assert found["calibration"] != calibration_digest(["onet", "wo", "drei"])
    assert found["samples"] == 3
    assert found["seed"] == 2**63
    assert found["timestamp"] == "2026-01-02T03:04:05Z"
    assert found["command"] == "ruvq quantize model --calibration c.jsonl"
    assert set(found["versions"]) == {"ruvq", "numpy"}


def test_inv_5_calibration_without_its_size_or_digest_is_refused() -> None:
    with pytest.raises(errors.UsageError, match="both"):
        Recipe(command="", samples=3)
    with pytest.raises(errors.UsageError, match="both"):
        Recipe(command="", calibration="0" * 64)
    with pytest.raises(errors.UsageError, match="SHA-256"):
        Recipe(command="", calibration="abc", samples=1)


def test_the_timestamp_follows_source_date_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert Recipe(command="").timestamp == "1970-01-02T00:00:00Z"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "tomorrow")
    with pytest.raises(errors.UsageError, match="SOURCE_DATE_EPOCH"):
        Recipe(command="")


def test_inv_7_own_formats_are_i8_rows_with_metadata(tmp_path: Path) -> None:
    with GGUFFile.open(write(tmp_path / "m.gguf")) as file:
        own = [t for t in file.tensors if t.type.own]
        assert [t.ggml_type for t in own] == [24, 24]
        assert file.metadata["ruvq.tensor.names"] == ["up", "experts"]
        assert file.metadata["ruvq.tensor.formats"] == ["pi-t3", "ternary"]
        assert file.metadata["ruvq.tensor.widths"] == [320, 64]
        assert "ruvq.type_namespace" not in file.metadata


def test_inv_7_type_ids_40_and_41_only_with_their_namespace(tmp_path: Path) -> None:
    specs = [TensorSpec("q3", "pi-q3-ruvllm", (2, 256)), TensorSpec("q2", "pi-q2-ruvllm", (1, 512))]
    with GGUFFile.open(write(tmp_path / "m.gguf", specs)) as file:
        assert [t.ggml_type for t in file.tensors] == [40, 41]
        assert [t.format for t in file.tensors] == ["pi-q3-ruvllm", "pi-q2-ruvllm"]
        assert [t.nbytes for t in file.tensors] == [2 * 98, 2 * 66]
        assert file.metadata["ruvq.type_namespace"] == "ruvllm"
        assert file.layout_version == 0
    upstream = [TensorSpec("a", "nvfp4", (2, 64)), TensorSpec("b", "q1_0", (1, 128))]
    with GGUFFile.open(write(tmp_path / "u.gguf", upstream)) as file:
        assert [(t.ggml_type, t.format, t.runnable) for t in file.tensors] == [
            (40, "nvfp4", True),
            (41, "q1_0", True),
        ]
    with pytest.raises(errors.UsageError, match="two formats"):
        write(tmp_path / "both.gguf", [*specs, *upstream])
    with pytest.raises(errors.UsageError, match="256"):
        write(tmp_path / "narrow.gguf", [TensorSpec("q3", "pi-q3-ruvllm", (2, 64))])


# ---- failures leave nothing behind ----


def broken(kind: str) -> Iterator[bytes]:
    yield bytes(16)
    raise KeyboardInterrupt if kind == "interrupt" else RuntimeError("stopped")


@pytest.mark.parametrize("kind", ["error", "interrupt"])
def test_an_exception_while_writing_leaves_the_old_file(kind: str, tmp_path: Path) -> None:
    target = tmp_path / "m.gguf"
    target.write_bytes(b"old")
    with pytest.raises((RuntimeError, KeyboardInterrupt)):
        write_gguf(target, "llama", {}, [(TensorSpec("a", "f32", (64,)), lambda: broken(kind))])
    assert target.read_bytes() == b"old"
    assert leftovers(tmp_path) == ["m.gguf"]


def test_bad_values_among_the_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.DataError, match="a"):
        write_gguf(tmp_path / "m.gguf", "llama", {}, [(TensorSpec("a", "f32", (2,)), lambda: b"\xff" * 8)])
    assert leftovers(tmp_path) == []


def test_mistakes_of_the_caller_are_refused(tmp_path: Path) -> None:
    a, b = TensorSpec("a", "f32", (8,)), TensorSpec("b", "f32", (8,))
    path = tmp_path / "m.gguf"
    with pytest.raises(errors.UsageError, match="another size"):
        write_gguf(path, "llama", {}, [(a, lambda: bytes(31))])
    with pytest.raises(errors.UsageError, match="another size"):
        write_gguf(path, "llama", {}, [(a, lambda: bytes(33))])
    with (
        pytest.raises(errors.UsageError, match="announced order"),
        GGUFWriter(path, "llama", {}, [a, b]) as writer,
    ):
        writer.write("b", bytes(32))
    with (
        pytest.raises(errors.UsageError, match="never written"),
        GGUFWriter(path, "llama", {}, [a, b]) as writer,
    ):
        writer.write("a", bytes(32))
    with pytest.raises(errors.FileFormatError, match="1 to 127"):
        write_gguf(path, "llama", {}, [(TensorSpec("n" * 128, "f32", (8,)), lambda: bytes(32))])
    for metadata in (
        {"x": None},
        {"x": [1, "a"]},
        {"x": [[1]]},
        {"x": []},
        {"ruvq.recipe": "{}"},
        {"x": 2**64},
    ):
        with pytest.raises(errors.UsageError):
            write_gguf(path, "llama", metadata, [])
    with pytest.raises(errors.FileFormatError, match="UTF-8"):
        write_gguf(path, "llama", {"x": "a\0b"}, [])
    with pytest.raises(errors.UsageError, match="alignment"):
        write_gguf(path, "llama", {}, [], alignment=12)
    for shape in ((), (0,), (1, 2, 3, 4, 5)):
        with pytest.raises(errors.UsageError):
            TensorSpec("a", "f32", shape)
    with pytest.raises(errors.UsageError, match="pi-t3"):
        TensorSpec("a", "pi-t9", (8,))
    with pytest.raises(errors.UsageError, match="whole blocks"):
        write_gguf(path, "llama", {}, [(TensorSpec("a", "q8_0", (3, 33)), lambda: b"")])
    assert leftovers(tmp_path) == []


def test_a_folder_that_is_not_there_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(errors.StorageError):
        write(tmp_path / "none" / "m.gguf")


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    """The system's limit on file sizes fails the write half-way, as a full disk does."""
    target = tmp_path / "m.gguf"
    target.write_bytes(b"old")
    spec = TensorSpec("a", "f32", (1024, 256))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(errors.StorageError) as caught:
            write_gguf(target, "llama", {}, [(spec, lambda: bytes(spec.nbytes))])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "space" in caught.value.hint
    assert target.read_bytes() == b"old"
    assert leftovers(tmp_path) == ["m.gguf"]


def test_too_little_space_is_noticed_before_anything_is_written(tmp_path: Path) -> None:
    spec = TensorSpec("a", "f32", (2**20, 2**20))  # 4 TB
    if os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize > spec.nbytes:
        pytest.skip("more than 4 TB free")
    with pytest.raises(errors.StorageError, match="not enough space"):
        write_gguf(tmp_path / "m.gguf", "llama", {}, [(spec, lambda: b"")])
    assert leftovers(tmp_path) == []


def test_a_killed_writer_leaves_no_target(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from ruvq.gguf import TensorSpec, write_gguf\n"
        "def data():\n"
        "    yield bytes(4096)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_gguf(sys.argv[1], 'llama', {}, [(TensorSpec('a', 'f32', (4096,)), data)])\n"
    )
    target = tmp_path / "m.gguf"
    done = subprocess.run([sys.executable, "-c", code, str(target)], check=False)
    assert done.returncode == -9
    assert not target.exists()
    assert all(name.endswith(".part") for name in leftovers(tmp_path))
