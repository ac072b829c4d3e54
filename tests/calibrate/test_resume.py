"""Calibration and quantization that are killed go on when run again, and give the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import ruvq
from ruvq.calibrate import calibrate
from ruvq.errors import StorageError
from ruvq.gguf.journal import Workplace
from ruvq.quantize.writing import Step

TOKENS = 2048
FIXED = {"timestamp": "t", "command": "test"}


class Work:
    """One kind of work on stories260K, in this process or in one that is killed."""

    def __init__(self, data: Path, folder: Path, kind: str) -> None:
        model = data / "stories260K"
        self.source, self.tokenizer = model / "stories260K.bin", model / "tok512.bin"
        self.text = data / "text" / "tiny_stories_train.txt"
        self.folder, self.kind = folder, kind
        self.artifact = folder / "calibration.gguf"

    def run(self, target: Path) -> int:
        """Does it; how many steps an earlier run had done."""
        resumed: list[bool] = []

        def step(now: Step) -> None:
            resumed.append(now.resumed and now.bytes_done > 0)

        if self.kind == "calibrate":
            calibrate(
                self.source, [str(self.text)], target, tokenizer=self.tokenizer, max_tokens=TOKENS, threads=1,
                progress=lambda done, total, earlier: resumed.append(earlier and done > 0), **FIXED,
            )  # fmt: skip
        else:
            ruvq.quantize_model(
                self.source, target, "pi-t2", tokenizer=self.tokenizer, calibration=self.artifact,
                sequential=self.kind == "sequential", threads=1, progress=step, **FIXED,
            )  # fmt: skip
        return sum(resumed)

    def begun(self, target: Path) -> bool:
        """Whether something is done that a later run can go on with, and something isn't."""
        work = target.with_name(f".{target.name}.work")
        state = {"calibrate": "state.json", "sequential": "layers.json", "quantize": "journal.jsonl"}
        path = work / state[self.kind]
        try:
            return len(path.read_bytes().splitlines()) >= (3 if self.kind == "quantize" else 1)
        except OSError:
            return False


@pytest.mark.parametrize("kind", ["calibrate", "quantize", "sequential"])
def test_a_killed_run_goes_on_and_gives_the_same_bytes(kind: str, data_dir: Path, tmp_path: Path) -> None:
    work = Work(data_dir, tmp_path, kind)
    if kind != "calibrate":
        Work(data_dir, tmp_path, "calibrate").run(work.artifact)
    whole, target = tmp_path / "whole.gguf", tmp_path / "killed.gguf"
    assert work.run(whole) == 0
    program = (
        f"from calibrate.test_resume import *; Work(*map(Path, {[str(data_dir), str(tmp_path)]}), {kind!r})"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", f"{program}.run(Path({str(target)!r}))"], env=environment
    )
    deadline = time.monotonic() + 120
    while not work.begun(target):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert not target.exists()
    assert work.run(target) > 0
    assert target.read_bytes() == whole.read_bytes()
    assert not list(tmp_path.glob(".*"))


def test_damaged_and_foreign_leftovers_are_not_used(data_dir: Path, tmp_path: Path) -> None:
    work = Work(data_dir, tmp_path, "quantize")
    Work(data_dir, tmp_path, "calibrate").run(work.artifact)
    whole, target = tmp_path / "whole.gguf", tmp_path / "target.gguf"
    work.run(whole)

    def interrupted(edit: Any) -> int:
        """Runs over leftovers of a run of which everything was written but the name."""
        folder = tmp_path / ".target.gguf.work"
        kept: dict[str, bytes] = {}

        def keep(step: Step) -> None:
            if step.bytes_done > step.bytes_total // 2:
                kept.update({p.name: p.read_bytes() for p in folder.iterdir()})
                raise RuntimeError("stop")

        with pytest.raises(RuntimeError):
            ruvq.quantize_model(
                work.source, target, "pi-t2", tokenizer=work.tokenizer, calibration=work.artifact,
                threads=1, progress=keep, **FIXED,
            )  # fmt: skip
        assert not folder.exists()
        folder.mkdir()
        for name, data in kept.items():
            (folder / name).write_bytes(edit(name, data))
        done = work.run(target)
        assert target.read_bytes() == whole.read_bytes()
        target.unlink()
        return done

    everything = interrupted(lambda name, data: data)
    assert everything > 0
    cut = interrupted(lambda name, data: data[: len(data) * 3 // 4] if name == "part" else data)
    assert 0 < cut < everything
    assert interrupted(lambda name, data: data[:-2] if name == "journal.jsonl" else data) == everything - 1
    assert interrupted(lambda name, data: b"\0" * len(data) if name == "part" else data) == 0
    assert interrupted(lambda name, data: b'{"key": "another"}' if name == "work.json" else data) == 0
    assert interrupted(lambda name, data: b"[" if name == "work.json" else data) == 0


def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    target = tmp_path / "a.gguf"
    with Workplace(target, "key"), pytest.raises(StorageError, match="another run"), Workplace(target, "key"):
        pass
    assert not list(tmp_path.iterdir())


def test_work_that_goes_on_keeps_the_time_it_began(tmp_path: Path) -> None:
    target = tmp_path / "a.gguf"
    folder = tmp_path / ".a.gguf.work"
    with Workplace(target, "key", "then") as work:
        about = (work.folder / "work.json").read_bytes()
    for key, expected in (("key", "then"), ("other", None)):
        folder.mkdir()
        (folder / "work.json").write_bytes(about)
        with Workplace(target, key) as work:
            assert (work.timestamp == "then") == (expected == "then")
