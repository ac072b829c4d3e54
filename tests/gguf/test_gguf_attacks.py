"""Every malformed file gives its typed error, every unusual one is accepted (docs/container.md)."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from attacks.answer import STAGES
from attacks.build_gguf import U8, gguf, info, kv
from attacks.case import Case
from attacks.container import VALID
from attacks.corpus import corpus, gguf_cases, write_corpus
from ruvq import core, errors
from ruvq.core import CONSTANTS, structs
from ruvq.gguf import GGUFFile

CASES = gguf_cases()


@pytest.mark.parametrize("case", [c for c in CASES if c.code], ids=lambda c: c.name)
def test_a_malformed_file_gives_its_typed_error(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "case.gguf"
    path.write_bytes(case.data)
    with pytest.raises(errors.RuvqError) as caught:
        STAGES[case.stage]([path])
    assert caught.value.code == case.code, str(caught.value)
    assert type(caught.value) is errors.for_code(case.code or "")
    assert case.says in str(caught.value)
    assert caught.value.expected
    assert caught.value.actual


@pytest.mark.parametrize("case", [c for c in CASES if not c.code], ids=lambda c: c.name)
def test_an_unusual_but_valid_file_is_accepted(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "case.gguf"
    path.write_bytes(case.data)
    STAGES[case.stage]([path])


def test_the_corpus_covers_every_class_of_files() -> None:
    assert {case.attack for case in CASES} >= {*range(1, 16), 17, 18, 19, 20}


@pytest.mark.parametrize("case", [c for c in CASES if c.code and c.stage == "parse"], ids=lambda c: c.name)
def test_memory_is_bounded_by_the_file_not_by_what_it_claims(case: Case) -> None:
    """The index takes a small multiple of the file's own bytes: no small file can ask for much."""
    asked: list[int] = []
    backend = core.get()
    place = backend.place(case.data) if case.data else backend.alloc(1)
    end = place.address + len(case.data)
    with backend.alloc(8) as out:
        try:
            backend.call("rq_gguf_index_bytes", place.address, end, end, out.address)
        except errors.RuvqError:
            return  # refused before anything was sized
        asked.append(int.from_bytes(backend.read(out.address, 8), "little"))
    assert asked[0] <= 256 + 6 * len(case.data)


def test_the_largest_index_stays_below_sixteen_megabytes() -> None:
    kv, tensor = structs.size("rq_gguf_kv"), structs.size("rq_gguf_tensor")
    keys, tensors = CONSTANTS["RQ_MAX_KEYS"], CONSTANTS["RQ_MAX_TENSORS"]
    assert structs.size("rq_gguf") + keys * (kv + 8) + tensors * (tensor + 8) < 16 << 20


@pytest.mark.parametrize(
    "data", [VALID, next(c.data for c in CASES if c.name == "layout-ok")], ids=["f32", "own"]
)
def test_a_file_cut_at_any_byte_is_refused_as_truncated(data: bytes) -> None:
    with GGUFFile.open(data) as file:
        end = file.tensors[-1].offset + file.tensors[-1].nbytes  # only padding follows, which may be absent
    for length in range(end):
        with pytest.raises(errors.FileFormatError) as caught:
            GGUFFile.open(data[:length])
        assert caught.value.code == "RQ_E_TRUNCATED", (length, str(caught.value))


def test_names_made_to_collide_are_refused_in_bounded_time() -> None:
    """A table that a file can fill with one chain makes the work quadratic; 512 probes end it."""
    keys = colliding_keys(600)
    with pytest.raises(errors.FileFormatError) as caught:
        GGUFFile.open(gguf(kv(key, U8, 0) for key in keys))
    assert caught.value.code == "RQ_E_LIMIT"
    assert "collide" in str(caught.value)


def test_honest_names_never_collide_that_often() -> None:
    """As many keys and tensors as a file may have, named as converters name them."""
    most = CONSTANTS["RQ_MAX_KEYS"]
    keys = [kv(f"expert.{i // 256}.layer.{i % 256}.scale", U8, 0) for i in range(most)]
    entries = [info(f"blk.{i // 512}.ffn_gate.{i % 512}.weight", [1], 24, 32 * i) for i in range(most)]
    with GGUFFile.open(gguf(keys, entries, bytes(32 * most))) as file:
        assert len(file.metadata) == len(file.tensors) == most


def colliding_keys(count: int) -> list[bytes]:
    """Keys that begin at the same slot of a table for `count` keys (the hash of reader.c)."""
    slots = 4
    while slots < 2 * count:
        slots *= 2
    found: list[bytes] = []
    number = 0
    while len(found) < count:
        key = b"%x" % number
        number += 1
        h = 0xCBF29CE484222325
        for byte in key:
            h = (h ^ byte) * 0x100000001B3 % 2**64
        h ^= h >> 33
        h = h * 0xFF51AFD7ED558CCD % 2**64
        if (h >> 32) % slots == 0:
            found.append(key)
    return found


def test_the_corpus_can_be_written_for_other_hosts(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    index: list[dict[str, Any]] = json.loads((tmp_path / "index.json").read_text())
    assert len(index) == len(corpus())
    kept = [file for entry in index if entry["stage"] != "download" for file in entry["files"]]
    assert all((tmp_path / file).is_file() for file in kept)


def test_the_32_bit_build_gives_the_same_answers(repository: Path, tmp_path: Path) -> None:
    """Class 18 among them: sizes and offsets of 2^31 and 2^32 where size_t has 32 bits."""
    write_corpus(tmp_path, [case for case in CASES if case.stage in ("parse", "verify", "model")])
    module, abi = repository / "web" / "ruvq.wasm", repository / "web" / "abi.js"
    assert module.is_file(), "run `make wasm` first"
    driver = Path(__file__).with_name("corpus_in_wasm.mjs")
    done = subprocess.run(
        ["node", driver, module, abi, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answers = {entry["file"]: entry["code"] for entry in map(json.loads, done.stdout.splitlines())}
    assert answers == {
        case.name + ".gguf": case.code for case in CASES if case.stage in ("parse", "verify", "model")
    }
