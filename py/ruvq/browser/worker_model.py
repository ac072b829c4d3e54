"""`ruvq.Model.fetch`: models that run in a worker of the page, downloaded straight into the engine's memory.

The worker is that of ruvq.js, which the wheel carries: downloads, errors and tokens are the same as for a
page that uses it from JavaScript. Python only passes text along, so the page stays responsive.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .. import errors
from ..errors import RuvqError, UsageError
from . import scripts

Progress = Callable[[str, int, "int | None"], object]  # phase, bytes so far, bytes in all where known

_PUBLISH = "(data, type) => URL.createObjectURL(new Blob([data], { type }))"
_IMPORT = "(url) => import(url)"
_runtime: Any = None  # ruvq.js as a module, with the URLs of its worker and its engine


@dataclass(frozen=True)
class Runtime:
    """ruvq.js, loaded from the wheel, and the URLs of what it starts: options of its Model.fetch."""

    module: Any
    urls: dict[str, Any]


# the engine's builds by the names that variants.js gives them
_MODULES = {
    "wasmURL": {"relaxed-simd": "ruvq-relaxed.wasm", "simd128": "ruvq.wasm"},
    "wasmThreadsURL": {"relaxed-simd": "ruvq-threads-relaxed.wasm"},
}


async def runtime() -> Runtime:
    """Loads ruvq.js from the wheel, once."""
    global _runtime
    if _runtime is None:
        from pyodide.code import run_js
        from pyodide.ffi import to_js

        folder, publish = scripts.folder(), run_js(_PUBLISH)

        def read(name: str) -> str:
            return (folder / name).read_text()

        def publish_script(text: str) -> str:
            return publish(text, "text/javascript")

        urls = scripts.link("ruvq.js", read, publish_script)
        started = {
            "workerURL": scripts.link("worker.js", read, publish_script)["worker.js"],
            "poolWorkerURL": publish_script(read("pool-worker.js")),
        }
        for option, builds in _MODULES.items():
            started[option] = run_js("({})")
            for variant, name in builds.items():
                if not (folder / name).is_file():
                    continue  # not every wheel has every build
                address = publish(to_js((folder / name).read_bytes()), "application/wasm")
                setattr(started[option], variant, address)
        _runtime = Runtime(await run_js(_IMPORT)(urls["ruvq.js"]), started)
    return _runtime


def translated(error: Any) -> Exception:
    """The Python exception of a JavaScript error of ruvq; other errors come back as they are."""
    from pyodide.ffi import JsException

    if not isinstance(error, JsException):
        return error
    names = {"UnsupportedError": "MissingDependencyError"}
    kind = getattr(errors, names.get(error.name, error.name), None)
    if not (isinstance(kind, type) and issubclass(kind, RuvqError)):
        return error

    def field(name: str) -> str:
        return str(getattr(error, name, None) or "")

    details = {name: field(name) for name in ("subject", "expected", "actual", "hint", "code")}
    return kind(field("summary") or str(error.message), **details)


async def _awaited(promise: Awaitable[Any]) -> Any:
    """A promise's value; ruvq's JavaScript errors become Python's."""
    try:
        return await promise
    except Exception as error:
        raise translated(error) from None


def _options(**options: Any) -> Any:
    """A JavaScript object of those options that are given."""
    import js
    from pyodide.ffi import to_js

    given = {name: value for name, value in options.items() if value is not None}
    return to_js(given, dict_converter=js.Object.fromEntries)


async def fetch(
    url: str,
    *,
    progress: Progress | None = None,
    context: int | None = None,
    kv: str = "f16",
    hashes: bool = False,
    verify: bool = False,
    threads: int | None = None,
) -> WorkerModel:
    """See `ruvq.Model.fetch`."""
    import js
    from pyodide.ffi import create_proxy

    loaded = await runtime()
    abort = js.AbortController.new()
    report = None
    if progress is not None:
        call = progress  # a name of its own, so that the type is known inside
        report = create_proxy(lambda event: call(event.phase, event.loaded, event.total))
    options = _options(
        context=context,
        kv=kv,
        hashes=hashes,
        verify=verify,
        threads=threads,
        signal=abort.signal,
        **loaded.urls,
    )
    if report is not None:
        options.onProgress = report
    try:
        return WorkerModel(await _awaited(loaded.module.Model.fetch(url, options)))
    except asyncio.CancelledError:
        abort.abort()
        raise
    finally:
        if report is not None:
            report.destroy()


class WorkerModel:
    """A model in a worker. Made by `ruvq.Model.fetch`; give its memory back with `close`.

    `info` is a dict of what the file holds; `last` the last generation.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self.info: dict[str, Any] = model.info.to_py()
        self.last: WorkerGeneration | None = None

    def stream(
        self,
        prompt: str,
        max_tokens: int = 256,
        temperature: float = 0.8,
        top_p: float = 0.95,
        min_p: float = 0.0,
        top_k: int = 0,
        seed: int | None = None,
        stop: str | Sequence[str] | None = None,
    ) -> WorkerGeneration:
        """Continues `prompt`: an async iterator of pieces of text, cancellable at every token. The options
        are those of `ruvq.Model.generate`; the same seed gives the same text as there."""
        stops = [stop] if isinstance(stop, str) else list(stop or ())
        options = _options(
            maxTokens=max_tokens, temperature=temperature, topP=top_p, minP=min_p, topK=top_k, stop=stops
        )
        if seed is not None:
            import js

            if not 0 <= seed < 2**64:
                raise UsageError(
                    "the seed is out of range", subject="seed", expected="0 to 2^64 - 1", actual=str(seed)
                )
            options.seed = js.BigInt(str(seed))
        self.last = WorkerGeneration(self._model.generate(prompt, options))
        return self.last

    def generate(self, prompt: str, max_tokens: int = 256, **options: Any) -> Iterator[str]:
        """`stream` for a plain `for`, where Pyodide can wait for JavaScript in synchronous code (Chromium
        from version 137). Raises UsageError elsewhere: use `async for piece in model.stream(...)`."""
        from pyodide.ffi import can_run_sync, run_sync

        if not can_run_sync():
            raise UsageError(
                "this browser can't wait for a worker in synchronous code",
                subject="generate",
                hint="use `async for piece in model.stream(...)`, or ruvq.Model.open in this thread",
            )
        pieces = self.stream(prompt, max_tokens, **options)
        try:
            while (piece := run_sync(pieces.next_piece())) is not None:
                yield piece
        finally:
            run_sync(pieces.aclose())

    async def tokenize(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens."""
        return (await _awaited(self._model.tokenize(text))).to_py()

    async def detokenize(self, ids: Sequence[int]) -> str:
        """The text of token ids."""
        from pyodide.ffi import to_js

        return await _awaited(self._model.detokenize(to_js(list(ids))))

    async def hashes(self) -> list[int]:
        """Hashes of the activations after every layer, for a model fetched with `hashes=True`."""
        return list((await _awaited(self._model.hashes())).to_py())

    def close(self) -> None:
        """Ends the worker and gives all of its memory back. May be called twice."""
        self._model.dispose()

    def __enter__(self) -> WorkerModel:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class WorkerGeneration:
    """Pieces of text as they come. `text` holds all so far; `stats`, at the end, what it took, by the names
    that ruvq.js gives them."""

    def __init__(self, generation: Any) -> None:
        import js

        self._generation = generation
        self._pieces = js.Reflect.get(generation, js.Symbol.asyncIterator).call(generation)
        self._ended = False
        self.text = ""
        self.stats: dict[str, Any] | None = None

    async def next_piece(self) -> str | None:
        """The next piece, None at the end. A cancelled task stops the engine at the token it is at."""
        if self._ended:
            return None
        try:
            step = await _awaited(self._pieces.next())
        except BaseException:
            await self.aclose()
            raise
        if step.done:
            await self.aclose()
            return None
        self.text += step.value
        return step.value

    async def aclose(self) -> None:
        """Stops the engine; what was written stands."""
        if self._ended:
            return
        self._ended = True
        await _awaited(getattr(self._pieces, "return")())
        if self._generation.stats is not None:
            self.stats = self._generation.stats.to_py()

    @property
    def tokens_per_second(self) -> float:
        """So far, of decoding."""
        return float(self._generation.tokensPerSecond)

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        piece = await self.next_piece()
        if piece is None:
            raise StopAsyncIteration
        return piece
