"""The start that `--start ptq` makes: once, whatever is killed or damaged, and for all processes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ruvq.errors import StorageError, UsageError
from ruvq.train import QatConfig, RunOptions, Work, qat, run
from ruvq.train.kept_start import KEPT, MADE_OF, PIECE, kept_start
from ruvq.train.processes import Processes
from ruvq.train.start import make_start

WANTED = {"model": "m", "seed": 0}


class Maker:
    """Writes `content`, and counts how often."""

    def __init__(self, content: bytes = b"start") -> None:
        self.content, self.times = content, 0

    def __call__(self, working: Path) -> Path:
        self.times += 1
        (working / "made.gguf").write_bytes(self.content)
        return working / "made.gguf"


def test_it_is_made_once(tmp_path: Path) -> None:
    make = Maker()
    for _ in range(2):
        path = kept_start(tmp_path / "run", WANTED, make, Processes())
        assert path.read_bytes() == b"start"
    assert make.times == 1
    assert {p.name for p in path.parent.iterdir()} == {KEPT, MADE_OF}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / KEPT).write_bytes(b"stort"),
        lambda folder: (folder / KEPT).unlink(),
        lambda folder: (folder / MADE_OF).write_text("{"),
        lambda folder: (folder / MADE_OF).write_text("[]"),
    ],
)
def test_it_is_made_again_when_it_is_not_whole(tmp_path: Path, spoil: Callable[[Path], Any]) -> None:
    make = Maker()
    kept_start(tmp_path, WANTED, make, Processes())
    spoil(tmp_path)
    assert kept_start(tmp_path, WANTED, make, Processes()).read_bytes() == b"start"
    assert make.times == 2


def test_it_is_made_again_of_other_things(tmp_path: Path) -> None:
    make = Maker()
    kept_start(tmp_path, WANTED, make, Processes())
    kept_start(tmp_path, WANTED | {"seed": 1}, make, Processes())
    assert make.times == 2


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="kept") as caught:
        kept_start(tmp_path / "file", WANTED, Maker(), Processes())
    assert str(tmp_path / "file") in str(caught.value)


class Threads(Processes):
    """Two processes in two threads."""

    def __init__(self, rank: int, barrier: threading.Barrier, values: list[Any]) -> None:
        self.rank, self.count, self.barrier, self.values = rank, 2, barrier, values

    def share(self, value: Any) -> Any:
        return self._exchanged(value)[0]

    def any(self, flag: bool) -> bool:
        return any(self._exchanged(flag))

    def _exchanged(self, value: Any) -> list[Any]:
        self.values[self.rank] = value
        self.barrier.wait(60)
        found = list(self.values)
        self.barrier.wait(60)
        return found


@pytest.mark.parametrize("folders", [("one", "one"), ("one", "another")])
def test_processes_have_the_same_file_wherever_they_run(tmp_path: Path, folders: tuple[str, str]) -> None:
    content = bytes(range(251)) * (PIECE // 251 + 7)  # more than one piece
    make, barrier, values = Maker(content), threading.Barrier(2), [None, None]
    found: dict[int, Path] = {}

    def process(rank: int) -> None:
        processes = Threads(rank, barrier, values)
        found[rank] = kept_start(tmp_path / folders[rank], WANTED, make, processes)

    threads = [threading.Thread(target=process, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert make.times == 1
    for rank in (0, 1):
        assert found[rank] == tmp_path / folders[rank] / KEPT
        assert found[rank].read_bytes() == content


def test_a_run_that_goes_on_uses_the_start_that_it_has(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "stories.txt"
    text.write_text((data_dir / "text/tiny_stories_train.txt").read_text()[:40000])
    made = []
    monkeypatch.setattr(run, "make_start", lambda *a, **k: made.append(1) or make_start(*a, **k))
    stories = data_dir / "stories260K"

    def train(start: str, resume: bool) -> Any:
        return qat(
            stories / "stories260K.bin", [str(text)], tmp_path / "out.gguf", QatConfig.pit2(batch_size=2),
            RunOptions(window=64, steps=1, eval_windows=4, folder=tmp_path / "run"),
            Work(threads=1, start=start, resume=resume), tokenizer=stories / "tok512.bin", overwrite=True,
        )  # fmt: skip

    first = train("ptq", resume=False)
    again = train("ptq", resume=True)
    assert len(made) == 1
    assert again.resumed
    assert again.perplexity == first.perplexity
    with pytest.raises(UsageError, match="another run"):
        train("float", resume=True)
