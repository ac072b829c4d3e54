"""One layer at a time: the same numbers as whole steps, and the inputs that the host may look at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ruvq import core
from ruvq.errors import UsageError
from ruvq.gguf import GGUFFile
from ruvq.quantize.pipeline import quantize_model
from ruvq.runtime.engine import RESIDUAL, Engine

TOKENS = list(range(3, 40))


@pytest.fixture(scope="module", params=["f32", "pi-t3"])
def file(
    request: pytest.FixtureRequest, data_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GGUFFile]:
    model, path = data_dir / "stories260K", tmp_path_factory.mktemp("stage") / "model.gguf"
    quantize_model(
        model / "stories260K.bin", path, request.param, tokenizer=model / "tok512.bin", progress=False
    )
    with GGUFFile.open(path) as opened:
        yield opened


def floats(address: int, rows: int, width: int) -> np.ndarray:
    raw = core.get().read(address, 4 * rows * width)
    return np.frombuffer(raw, np.float32).reshape(rows, width)


@pytest.mark.parametrize("batch", [64, 16, 1])
def test_layers_one_by_one_give_the_residual_stream_of_a_whole_step(file: GGUFFile, batch: int) -> None:
    with Engine(file, context=64, batch=64) as engine:
        engine.feed(TOKENS)
        engine.step()
        width, layers = engine.info.width, engine.info.layers
        whole = floats(engine.tap(RESIDUAL), len(TOKENS), width)
    with (
        Engine(file, context=64, batch=batch, threads=2, split_all=True) as engine,
        core.get().alloc(4 * 64 * width) as rows,
    ):
        for layer in range(layers):
            engine.stage(rows.address, layer)
            engine.truncate(0)
            engine.feed(TOKENS)
            while engine.step():
                pass
        assert np.array_equal(floats(rows.address, len(TOKENS), width), whole)
        engine.stage(0)
        engine.truncate(0)
        engine.feed(TOKENS)
        while engine.step():
            pass
        assert engine.logits_rows > 0


def test_a_stage_ends_at_an_input_whose_moments_were_summed(file: GGUFFile) -> None:
    backend = core.get()
    with (
        Engine(file, context=64, batch=64) as engine,
        backend.alloc(4 * 64 * engine.info.width) as rows,
        backend.alloc(4 * engine.moments(0)) as memory,
    ):
        info = engine.info
        widths = (info.width, info.heads * info.head_width, info.width, info.ff_width)
        at = memory.address
        for input, width in enumerate(widths):
            backend.write(memory.address, bytes(memory.nbytes))
            engine.stage(rows.address, 0, input, memory.address)
            engine.truncate(0)
            engine.feed(TOKENS)
            engine.step()
            x = floats(engine.tap(input), len(TOKENS), width).astype(float)
            moment = floats(at, width, width)
            np.testing.assert_allclose(moment, np.triu(x.T @ x), rtol=0, atol=1e-4 * np.abs(x).max() ** 2)
            at += 4 * width * width
        assert at == memory.end
        assert engine.moments(0, True) == sum(widths)


def test_layers_and_inputs_that_are_not_there_are_refused(file: GGUFFile) -> None:
    with Engine(file, context=64) as engine, core.get().alloc(64) as rows:
        for layer, until in ((-1, 5), (engine.info.layers + 1, 5), (0, 6), (0, -1)):
            with pytest.raises(UsageError, match="stage"):
                engine.stage(rows.address, layer, until)
