"""Models of ordinary size, natively: memory is given back, and the file is mapped or read once."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ruvq import Model

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "build" / "bench"))

from random_models import SHAPES, write_model  # noqa: E402

pytestmark = pytest.mark.slow
CYCLES = 20
TOKENS = list(range(300, 320))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """110 million random weights in pi-t2, 29 MB; removed at once, for its size."""
    path = tmp_path_factory.mktemp("larger") / "K.gguf"
    write_model(path, SHAPES["K"], "pi-t2")
    yield path
    path.unlink()


def resident(field: str = "VmRSS") -> int:
    """Bytes of this process in memory now."""
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("no /proc to read the resident size from")
    return next(int(s.split()[1]) * 1024 for s in status.read_text().splitlines() if s.startswith(field))


def test_twenty_loads_and_disposals_do_not_grow_the_process(file: Path) -> None:
    held, open_bytes, scores = [], 0, set()
    before = resident()
    for _ in range(CYCLES):
        with Model.open(file) as model:
            scores.add(tuple(model.score(TOKENS)))
            open_bytes = resident() - before
            limit = 1.15 * file.stat().st_size + model.info.memory_bytes
        held.append(resident())
    assert len(scores) == 1
    size = file.stat().st_size
    assert max(held[CYCLES // 2 :]) - min(held[2 : CYCLES // 2]) < size / 4
    assert open_bytes < limit + size / 4  # once, beside what the model asked for
