"""`verify`: SHA-256 and every kind of damage it must find, reported with the place."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from attacks.build_gguf import GGML_F32, gguf, info, llama, pad
from attacks.corpus import gguf_cases as corpus
from attacks.data import digests
from ruvq import core, errors
from ruvq.core import structs
from ruvq.gguf import GGUFFile, VerifyProgress

LENGTHS = [0, 1, 3, 55, 56, 57, 63, 64, 65, 119, 120, 127, 128, 1000, 65536 + 7]


def sha256(pieces: list[bytes]) -> str:
    backend = core.get()
    with backend.alloc(structs.size("rq_sha256")) as state, backend.alloc(32) as digest:
        backend.raw("rq_sha256_init", state.address)
        for piece in pieces:
            if piece:
                with backend.place(piece) as data:
                    backend.raw("rq_sha256_update", state.address, data.address, data.end)
        backend.raw("rq_sha256_final", state.address, digest.address)
        return backend.read(digest.address, 32).hex()


@pytest.mark.parametrize("length", LENGTHS)
def test_sha256_equals_hashlib(length: int) -> None:
    data = bytes((i * 31 + i // 256) % 256 for i in range(length))
    expected = hashlib.sha256(data).hexdigest()
    assert sha256([data]) == expected
    assert sha256([data[: length // 3], data[length // 3 : length // 2], data[length // 2 :]]) == expected


def test_sha256_of_many_small_pieces() -> None:
    data = bytes(range(256)) * 2
    assert sha256([data[i : i + 7] for i in range(0, len(data), 7)]) == hashlib.sha256(data).hexdigest()


def test_a_sound_file_gives_a_clean_report() -> None:
    with GGUFFile.open(digests(bytes(32), True, True)) as file:
        report = file.verify()
    assert report.ok
    assert (report.tensors, report.tensor_digests, report.header_digest, report.values_checked) == (
        1,
        1,
        True,
        1,
    )


def test_a_changed_tensor_byte_is_found_and_named() -> None:
    for i in range(32):
        data = bytearray(digests(bytes(32), True, True))
        data[-32 + i] ^= 1
        with GGUFFile.open(bytes(data)) as file:
            problems = file.verify().problems
        assert [(type(p), p.subject) for p in problems] == [(errors.IntegrityError, "a")]


def test_a_changed_header_byte_never_goes_unnoticed() -> None:
    """Either the parser refuses the file, or the header's digest differs: no byte is outside both."""
    whole = digests(bytes(32), True, True)
    for i in range(len(whole) - 32):
        data = bytearray(whole)
        data[i] ^= 1
        try:
            with GGUFFile.open(bytes(data)) as file:
                assert not file.verify().ok or "ruvq.sha256.header" not in file.metadata, i
        except errors.RuvqError:
            continue


def test_all_damage_is_listed_not_only_the_first() -> None:
    by_name = {case.name: case for case in corpus()}
    data = by_name["data-f32-nan"].data
    entries = [info("a", [8]), info("b", [8], GGML_F32, 32), info("c", [8], GGML_F32, 64)]
    bad = data[-32:]
    with GGUFFile.open(gguf([], entries, bad + bytes(32) + bad)) as file:
        report = file.verify()
    assert len(report.problems) == 2
    assert [p.subject for p in report.problems] == ["a", "c"]
    assert "row 0, weight 7" in report.problems[0].expected
    assert [p["error"] for p in report.as_dict()["problems"]] == ["DataError", "DataError"]
    with pytest.raises(errors.DataError):
        report.raise_first()


def test_progress_rises_to_the_end_and_large_tensors_go_in_pieces() -> None:
    seen: list[VerifyProgress] = []
    rows = 3000  # of 1 KiB: three pieces of a megabyte
    with GGUFFile.open(gguf([], [info("a", [256, rows])], bytes(1024 * rows))) as file:
        assert file.verify(seen.append).ok
    done = [step.bytes_done for step in seen]
    assert done == sorted(done)
    assert done[-1] == seen[-1].bytes_total == 1024 * rows
    assert len(set(done)) >= 3


def test_a_bad_row_is_named_by_its_place_in_the_tensor() -> None:
    """Beyond the first piece too."""
    rows, bad = 3000, 2500
    data = bytearray(1024 * rows)
    data[1024 * bad + 40 : 1024 * bad + 44] = b"\xff\xff\xff\xff"
    with GGUFFile.open(gguf([], [info("a", [256, rows])], bytes(data))) as file:
        (problem,) = file.verify().problems
    assert f"row {bad}, weight 10" in problem.expected


def test_files_without_digests_are_still_checked_for_values() -> None:
    with GGUFFile.open(llama()) as file:
        report = file.verify()
    assert report.ok
    assert not report.header_digest
    assert report.tensor_digests == 0
    assert report.values_checked == report.tensors


def test_bytes_in_a_path_are_checked_too(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(pad(digests(bytes(32), True, True, "tensor")))
    with GGUFFile.open(path) as file, pytest.raises(errors.IntegrityError, match="a: "):
        file.verify().raise_first()
