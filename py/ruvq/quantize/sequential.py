"""Sequential rounding: each matrix is rounded for the inputs that it will really get, those of a model whose
earlier matrices are quantized already, and towards the outputs of the float model.

Float and quantized model run side by side, one layer at a time, over the tokens that the calibration artifact
holds. With x the float model's input of a matrix and z the quantized model's, summed over tokens,

    H = sum z z^T,   C = sum x z^T,   weights to round: V = (W C + d W) (H + d)^-1

is the least-squares answer to "W x, from z" (d: the damping), and the errors V - decoded are fed back with H.
The two matrices of a layer that write to the residual stream aim at the float model's stream itself, so that
they make up for what went wrong before them: there W C is the sum of (float stream behind -
quantized stream before) z^T.

The quantized model is a draft file that the engine has mapped while its layers are filled in, so that the
arithmetic is the engine's own: int8 activations, transforms and all.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import core
from ..gguf import GGUFFile
from ..gguf.journal import replace_text
from ..runtime.engine import RESIDUAL, Engine
from .calibration import INPUT_OF, LAYER_INPUTS
from .feedback import Guide, factorise
from .metadata import file_digest

if TYPE_CHECKING:
    import numpy as np

    from .calibration import Calibration
    from .plan import PlannedTensor

ROWS = 64  # of a matrix of second moments: a thread's piece of work
ATTENTION_OUT, FEED_FORWARD, DOWN = 1, 2, 3  # the engine's numbers of a layer's inputs

Encode = Callable[["PlannedTensor", Guide], tuple[Any, Iterator[memoryview]]]


class _Side:
    """One of the two models, with the residual stream of all tokens in a file between layers."""

    def __init__(self, path: Path, folder: Path, windows: Sequence[Sequence[int]], threads: int, kv: str):
        window = max(map(len, windows))
        self._windows, self._name, self._folder = windows, path.stem, folder
        with contextlib.ExitStack() as stack:
            self.file = stack.enter_context(GGUFFile.open(path))
            options = {"batch": window, "context": window, "kv": kv, "threads": threads}
            self.engine = stack.enter_context(Engine(self.file, **options))  # type: ignore[arg-type]
            self.width = self.engine.info.width
            self._rows = stack.enter_context(core.get().alloc(4 * self.width * window))
            self.close = stack.pop_all().close

    def stream(self, layer: int) -> Path:
        """The residual stream before a layer: float32 (tokens, width)."""
        return self._folder / f"{self._name}-{layer}"

    def steps(self, layer: int, until: int) -> Iterator[int]:
        """Computes the layer, or what comes before one of its inputs, window by window; their tokens."""
        backend, nbytes = core.get(), 4 * self.width
        with contextlib.ExitStack() as stack:
            stack.callback(self.engine.stage, 0)
            source = stack.enter_context(open(self.stream(layer), "rb")) if layer else None
            whole = until == RESIDUAL
            target = stack.enter_context(open(self.stream(layer + 1), "wb")) if whole else None
            self.engine.stage(self._rows.address, layer, until)
            for window in self._windows:
                if source is not None:
                    backend.write(self._rows.address, source.read(nbytes * len(window)))
                self.engine.truncate(0)
                self.engine.feed(window)
                self.engine.step()
                if target is not None:
                    target.write(backend.view(self._rows.address, nbytes * len(window)))
                yield len(window)

    def floats(self, input: int, tokens: int, width: int) -> np.ndarray:
        """An input of the last window: float32 (tokens, width), valid until the next."""
        import numpy as np

        data = core.get().view(self.engine.tap(input), 4 * tokens * width)
        return np.frombuffer(data, np.float32).reshape(tokens, width)


@dataclass(frozen=True)
class _Sums:
    """H (width, width) and `cross`: C (width, width) or, where the stream is the aim, W C (rows, width)."""

    moment: np.ndarray
    cross: np.ndarray
    is_product: bool


class Sequential:
    """Fills in the layers of a draft file; `done` has every matrix's SHA-256 and report afterwards.

    `draft`: a complete file but for the layers' matrices. `float_path`: the model in floats. `encode` gives a
    tensor's report and bytes. `folder` keeps what a killed run needs to go on, a layer at a time.
    """

    def __init__(
        self,
        draft: Path,
        float_path: Path,
        calibration: Calibration,
        folder: Path,
        seed: int,
        damping: float,
        threads: int,
        encode: Encode,
    ) -> None:
        windows = calibration.windows()
        self._folder, self._draft = folder, draft
        self._seed, self._damping, self._encode = seed, damping, encode
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="ruvq-moments")
        self._float = _Side(float_path, folder, windows, threads, "f32")
        self._quantized = _Side(draft, folder, windows, threads, "f16")
        self._offsets = {t.name: t.offset for t in self._quantized.file.tensors}
        self.layers = self._float.engine.info.layers
        self.done: dict[str, dict[str, Any]] = {}
        self.first = self._recover()

    def _recover(self) -> int:
        """The layer to begin with: that in which an earlier run was killed."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            state = json.loads((self._folder / "layers.json").read_text(encoding="utf-8"))
            streams = [file_digest(side.stream(state["layer"])) for side in (self._float, self._quantized)]
            good = all(self._stored(name) == entry["digest"] for name, entry in state["done"].items())
            if streams == state["streams"] and good:
                self.done = state["done"]
                return int(state["layer"])
        return 0

    def _stored(self, name: str) -> str:
        return hashlib.sha256(self._quantized.file.tensor_bytes(name)).hexdigest()

    def run(self, layer: int, tensors: Sequence[PlannedTensor]) -> Iterator[PlannedTensor]:
        """Rounds a layer's matrices, in the order in which they are used; yields each when it is done."""
        by_input: dict[int, list[PlannedTensor]] = {}
        for tensor in tensors:
            by_input.setdefault(LAYER_INPUTS.index(INPUT_OF[tensor.name.split(".")[2]]), []).append(tensor)
        for input in sorted(by_input):
            group = by_input[input]
            sums = self._collect(layer, input, group[0].shape[-1])
            factor = None
            for tensor in group:
                turn = tensor.transform(self._seed)
                if factor is None or factor[0] != turn:
                    factor = turn, factorise(sums.moment, turn, self._damping, tensor.name)
                scale = factor[1].scale
                product = sums.cross * scale if sums.is_product else None
                cross = None if sums.is_product else sums.cross * scale
                self._fill(tensor, Guide(factor[1], cross=cross, product=product, damping=self._damping))
                yield tensor
        for _ in self._quantized.steps(layer, RESIDUAL):
            pass
        self._finish(layer + 1)

    def _fill(self, tensor: PlannedTensor, guide: Guide) -> None:
        """Rounds one matrix and writes it into the draft, where the engine sees it."""
        report, pieces = self._encode(tensor, guide)
        sha = hashlib.sha256()
        with open(self._draft, "rb+") as file:
            file.seek(self._offsets[tensor.name])
            for piece in pieces:
                file.write(piece)
                sha.update(piece)
        self.done[tensor.name] = {"digest": sha.hexdigest(), "note": report.sums()}

    def _collect(self, layer: int, input: int, width: int) -> _Sums:
        """Runs both models up to an input and sums over all tokens."""
        import numpy as np

        is_product = input in (ATTENTION_OUT, DOWN)
        stream = self._float.width
        moment = np.zeros((width, width), np.float32)
        cross = np.zeros((stream if is_product else width, width), np.float32)
        until = {ATTENTION_OUT: FEED_FORWARD, DOWN: RESIDUAL}.get(input, input)  # where the aim is known
        sides = (self._float.steps(layer, until), self._quantized.steps(layer, input))
        for tokens, _ in zip(*sides, strict=True):
            z = self._quantized.floats(input, tokens, width)
            if is_product:
                aim = self._float.floats(RESIDUAL, tokens, stream)
                aim = aim - self._quantized.floats(RESIDUAL, tokens, stream)
            else:
                aim = self._float.floats(input, tokens, width)
            self._add(moment, z, z, True)
            self._add(cross, aim, z, False)
        return _Sums(moment + np.triu(moment, 1).T, cross, is_product)

    def _add(self, out: np.ndarray, a: np.ndarray, b: np.ndarray, upper: bool) -> None:
        """out += a^T b, on the pool's threads."""
        backend = core.get()
        with backend.place(out) as target, backend.place(a) as left, backend.place(b) as right:
            where = (target.address, left.address, a.shape[1], right.address, b.shape[1], len(a))

            def piece(first: int) -> None:
                last = min(first + ROWS, a.shape[1])
                backend.call("rq_moment_cross", *where, first, last, int(upper))

            for _ in self._pool.map(piece, range(0, a.shape[1], ROWS)):
                pass

    def _finish(self, layer: int) -> None:
        """All before `layer` is done: notes where to go on, and lets go of the streams before."""
        if layer < self.layers:
            streams = [file_digest(side.stream(layer)) for side in (self._float, self._quantized)]
            state = {"layer": layer, "streams": streams, "done": self.done}
            replace_text(self._folder / "layers.json", json.dumps(state))
        for side in (self._float, self._quantized):
            side.stream(layer - 1).unlink(missing_ok=True)

    def close(self) -> None:
        """Ends threads, engines and files."""
        self._pool.shutdown()
        self._float.close()
        self._quantized.close()

    def __enter__(self) -> Sequential:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
