"""Reading GGUF files: what the reader says equals what is in the file, from every kind of source."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from attacks.build_gguf import F64, I64, STRING, U8, U32, array, gguf, info, kv, llama, llama_tensors, pad
from attacks.container import VALID, own
from ruvq import errors
from ruvq.gguf import GGUFFile, inspect
from ruvq.gguf.reader import parse
from ruvq.gguf.types import of_ggml

VOCABULARIES = ["gpt-2", "llama-spm", "phi-3", "starcoder"]


def test_every_kind_of_source_gives_the_same(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(VALID)
    sources = [
        path,
        str(path),
        VALID,
        bytearray(VALID),
        memoryview(VALID),
        io.BytesIO(VALID),
        path.open("rb"),
    ]
    for source in sources:
        with GGUFFile.open(source) as file:
            assert dict(file.metadata) == {"general.architecture": "llama", "n": 7}
            assert [t.name for t in file.tensors] == ["a"]
            assert file.tensor_bytes("a") == bytes(32)


def test_values_of_every_type_come_back() -> None:
    kvs = [
        kv("f64", F64, 0.1), kv("i64", I64, -(2**40)), kv("s", STRING, "é\n"),
        array("strings", STRING, ["", "b", "ç"]),
        array("bytes", U8, range(256)), array("none", U32, []),
    ]  # fmt: skip
    with GGUFFile.open(gguf(kvs)) as file:
        assert file.metadata["f64"] == 0.1
        assert file.metadata["i64"] == -(2**40)
        assert file.metadata["s"] == "é\n"
        assert file.metadata["strings"] == ["", "b", "ç"]
        assert file.metadata["bytes"] == list(range(256))
        assert file.metadata["none"] == []
        assert file.metadata.typed("bytes").type == "u8"
        assert "absent" not in file.metadata
        with pytest.raises(KeyError):
            file.metadata["absent"]


def test_shapes_are_in_weights_and_outermost_first() -> None:
    kvs = [
        kv("ruvq.layout_version", U32, 1),
        array("ruvq.tensor.names", STRING, ["own"]),
        array("ruvq.tensor.formats", STRING, ["pi-t3"]),
        array("ruvq.tensor.widths", U32, [320]),
    ]
    infos = [info("own", [98 + 26, 3, 5], 24), info("plain", [3, 2], 0, 98 * 15 + 26 * 15 + 4)]
    data = pad(bytes((98 + 26) * 15)) + bytes(24)
    infos[1] = info("plain", [3, 2], 0, len(data) - 24)
    with GGUFFile.open(gguf(kvs, infos, data)) as file:
        tensor = file.tensor("own")
        assert (tensor.shape, tensor.format, tensor.runnable) == ((5, 3, 320), "pi-t3", True)
        assert tensor.bits_per_weight == 8 * 124 / 320
        assert tensor.type.bits_per_weight == 8 * 98 / 256
        assert file.tensor("plain").shape == (2, 3)
        assert file.layout_version == 1


def test_weights_stay_readable_after_closing(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(llama())
    file = GGUFFile.open(path)
    view = file.tensor_bytes("output_norm.weight")
    before = bytes(view)
    file.close()
    file.close()
    assert bytes(view) == before
    with pytest.raises(TypeError):
        view[0] = 1
    with pytest.raises(errors.UsageError, match="closed"):
        file.tensor_bytes("output_norm.weight")


def test_a_missing_file_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(errors.StorageError) as caught:
        GGUFFile.open(tmp_path / "none.gguf")
    assert "none.gguf" in str(caught.value)


def test_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "page.gguf"
    path.write_bytes(b"<html>")
    with pytest.raises(errors.FileFormatError, match=r"page\.gguf.*HTML"):
        GGUFFile.open(path)


def test_a_header_is_parsed_while_the_rest_is_on_its_way() -> None:
    """EOFError until the header is whole, then the index, long before the data is there."""
    from ruvq import core

    file = llama()
    with GGUFFile.open(file) as opened:
        header = opened.header["header_bytes"]
    with core.get().place(file) as data:
        for present in (0, 3, 23, 24, header // 2, header - 1):
            with pytest.raises(EOFError):
                parse(data.address, present, len(file))
        parse(data.address, header, len(file)).free()


def test_damage_is_reported_as_soon_as_it_is_there() -> None:
    from ruvq import core

    file = b"GGUF" + struct.pack("<I", 9) + bytes(100)
    with core.get().place(file) as data, pytest.raises(errors.VersionError):
        parse(data.address, 24, len(file))
    page = b"<!DOCTYPE html>" + bytes(1000)
    with core.get().place(page) as data, pytest.raises(errors.FileFormatError, match="HTML"):
        parse(data.address, 16, len(page))


@pytest.mark.parametrize("name", VOCABULARIES)
def test_the_gguf_package_reads_the_same_from_real_files(name: str, data_dir: Path) -> None:
    gguf_package = pytest.importorskip("gguf")
    path = data_dir / "vocab" / f"ggml-vocab-{name}.gguf"
    theirs = gguf_package.GGUFReader(path)
    with GGUFFile.open(path) as ours:
        fields = {k: f.contents() for k, f in theirs.fields.items() if not k.startswith("GGUF.")}
        assert list(ours.metadata) == list(fields)
        for key, value in fields.items():
            assert ours.metadata[key] == value, key
        assert ours.header["header_bytes"] == ours.nbytes  # parsed to its last byte
        assert len(theirs.tensors) == len(ours.tensors) == 0


def test_sizes_of_ggml_types_equal_the_gguf_packages() -> None:
    gguf_package = pytest.importorskip("gguf")
    for kind, (weights, size) in gguf_package.GGML_QUANT_SIZES.items():
        ours = of_ggml(int(kind))
        # the package keeps Q8_1 as it was with two floats; ggml stores two halves (and no file has the type)
        expected = (32, 36) if kind.name == "Q8_1" else (weights, size)
        assert (ours.block_weights, ours.block_bytes) == expected, kind.name
        assert ours.name == kind.name.lower()


def test_inspect_gives_the_keys_that_scripts_rely_on() -> None:
    found = inspect(llama())
    assert found["architecture"] == "llama"
    assert found["bits_per_weight"] == found["bits_per_weight_actual"] == 32
    assert [t["name"] for t in found["tensors"]] == list(llama_tensors())
    assert found["tensors"][0]["shape"] == [259, 32]
    assert found["metadata"]["tokenizer.ggml.tokens"]["count"] == 259
    assert found["metadata"]["tokenizer.ggml.tokens"]["first"][:2] == ["<unk>", "<s>"]


def test_inspect_tells_nominal_from_actual_bits() -> None:
    found = inspect(own(row_bytes=26, widths=[64]))
    assert found["bits_per_weight"] == 98 * 8 / 256
    assert found["bits_per_weight_actual"] == 26 * 8 / 64
    assert found["tensors"][0]["format"] == "pi-t3"


def test_reading_needs_neither_numpy_nor_the_gguf_package(repository: Path) -> None:
    """In Pyodide there is neither."""
    code = (
        "import sys; sys.modules['numpy'] = sys.modules['gguf'] = None\n"
        "from ruvq.gguf import GGUFFile, inspect\n"
        "data = sys.stdin.buffer.read()\n"
        "inspect(data)\n"
        "with GGUFFile.open(data) as f: assert f.verify().ok\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=llama(), capture_output=True, cwd=repository / "py", check=False
    )
    assert done.returncode == 0, done.stderr.decode()
