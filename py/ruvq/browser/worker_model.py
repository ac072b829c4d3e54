"""`ruvq.Model.fetch`: models that run in a worker of the page, downloaded straight into the engine's memory.

The worker is that of ruvq.js, which the wheel carries: downloads, errors and tokens are the same as for a
page that uses it from JavaScript. Python only passes text along, so the page stays responsive.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import errors
from ..errors import RuvqError, UsageError
from ..version import __version__
from . import scripts

Progress = Callable[[str, int, "int | None"], object]  # phase, bytes so far, bytes in all where known

_PUBLISH = "(data, type) => URL.createObjectURL(new Blob([data], { type }))"
_IMPORT = "(url) => import(url)"
PAGES_OWN = "ruvq_js"  # the module's name by which a page may give Python its own ruvq.js
_runtime: Runtime | None = None


@dataclass(frozen=True)
class Runtime:
    """ruvq.js and the URLs of what it starts: options of its Model.fetch, none where it finds them itself."""

    module: Any
    urls: dict[str, Any]


# the engine's builds by the names that variants.js gives them
_MODULES = {
    "wasmURL": {"relaxed-simd": "ruvq-relaxed.wasm", "simd128": "ruvq.wasm"},
    "wasmThreadsURL": {"relaxed-simd": "ruvq-threads-relaxed.wasm"},
}


async def runtime() -> Runtime:
    """ruvq.js, once: the page's own where it registered that, else the wheel's."""
    global _runtime
    if _runtime is None:
        _runtime = _pages_own() or await _from_wheel()
    return _runtime


def _pages_own() -> Runtime | None:
    """What the page registered by `pyodide.registerJsModule("ruvq_js", ...)`. MissingDependencyError for
    another release."""
    try:
        module = importlib.import_module(PAGES_OWN)
    except ModuleNotFoundError:
        return None
    found = getattr(module, "version", None)
    if found != __version__:
        raise errors.MissingDependencyError(
            "the page's ruvq.js is of another release than the wheel",
            subject=PAGES_OWN,
            expected=__version__,
            actual=str(found),
            hint="serve the ruvq.js of the same release, or don't register it: the wheel has its own",
        )
    return Runtime(module, {})


async def _from_wheel() -> Runtime:
    """Published from the wheel, with all that it starts."""
    from pyodide.code import run_js
    from pyodide.ffi import to_js

    folder, publish = scripts.folder(), run_js(_PUBLISH)

    def read(name: str) -> str:
        return (folder / name).read_text()

    def publish_script(text: str) -> str:
        return publish(text, "text/javascript")

    urls = scripts.link(["ruvq.js", "worker.js", "pool-worker.js"], read, publish_script)
    started = {"workerURL": urls["worker.js"], "poolWorkerURL": urls["pool-worker.js"]}
    for option, builds in _MODULES.items():
        started[option] = run_js("({})")
        for variant, name in builds.items():
            if not (folder / name).is_file():
                continue  # not every wheel has every build
            address = publish(to_js((folder / name).read_bytes()), "application/wasm")
            setattr(started[option], variant, address)
    return Runtime(await run_js(_IMPORT)(urls["ruvq.js"]), started)


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


def _plain_object(value: Any) -> Any:
    """Lists, dicts and texts as JavaScript's own."""
    import js

    return js.JSON.parse(json.dumps(value))


_SAMPLING = {
    name: re.sub(r"_([a-z])", lambda m: m[1].upper(), name)
    for name in (
        "typical_p",
        "mirostat_tau",
        "mirostat_eta",
        "repeat_penalty",
        "presence_penalty",
        "frequency_penalty",
        "penalty_tokens",
    )
}


def _camel(name: str) -> str:
    """An option of generating as ruvq.js calls it."""
    if name not in _SAMPLING:
        raise UsageError("unknown option of generate", subject=name, expected=", ".join(_SAMPLING))
    return _SAMPLING[name]


def _sampling(
    temperature: float,
    top_p: float,
    min_p: float,
    top_k: int,
    seed: int | None,
    stop: str | Sequence[str] | None,
    logprobs: int | None = None,
    logit_bias: Mapping[int, float] | None = None,
    **more: Any,
) -> Any:
    """Options of ruvq.js. UsageError for a seed beyond 64 bits and for unknown options."""
    import js

    stops = [stop] if isinstance(stop, str) else list(stop or ())
    given: dict[str, Any] = {_camel(name): value for name, value in more.items()}
    options = _options(
        temperature=temperature, topP=top_p, minP=min_p, topK=top_k, stop=stops, logprobs=logprobs, **given
    )
    if logit_bias:
        from pyodide.ffi import to_js

        options.logitBias = js.Map.new(to_js([[int(t), float(b)] for t, b in logit_bias.items()]))
    if seed is not None:
        if not 0 <= seed < 2**64:
            raise UsageError(
                "the seed is out of range", subject="seed", expected="0 to 2^64 - 1", actual=str(seed)
            )
        options.seed = js.BigInt(str(seed))
    return options


async def fetch(
    url: str | Sequence[str],
    *,
    progress: Progress | None = None,
    context: int | None = None,
    kv: str = "f16",
    hashes: bool = False,
    verify: bool = False,
    threads: int | None = None,
    cache: str = "default",
    sha256: str | Sequence[str] | None = None,
    nbytes: int | None = None,
    memory_budget: int | None = None,
    notice: Callable[[str], object] | None = None,
) -> WorkerModel:
    """See `ruvq.Model.fetch`."""
    import js
    from pyodide.ffi import create_proxy, to_js

    loaded = await runtime()
    abort = js.AbortController.new()
    proxies = []

    def proxy(function: Callable[[Any], object]) -> Any:
        proxies.append(create_proxy(function))
        return proxies[-1]

    options = _options(
        context=context,
        kv=kv,
        hashes=hashes,
        verify=verify,
        threads=threads,
        cache=cache,
        sha256=sha256 if sha256 is None or isinstance(sha256, str) else list(sha256),
        bytes=nbytes,
        memoryBudget=memory_budget,
        signal=abort.signal,
        **loaded.urls,
    )
    if progress is not None:
        report = progress  # a name of its own, so that the type is known inside
        options.onProgress = proxy(lambda event: report(event.phase, event.loaded, event.total))
    if notice is not None:
        tell = notice
        options.onNotice = proxy(lambda event: tell(event.message))
    address = url if isinstance(url, str) else to_js(list(url))
    try:
        return WorkerModel(await _awaited(loaded.module.Model.fetch(address, options)))
    except asyncio.CancelledError:
        abort.abort()
        raise
    finally:
        for one in proxies:
            one.destroy()


class WorkerModel:
    """A model in a worker. Made by `ruvq.Model.fetch`; give its memory back with `close`.

    `info` is a dict of what the file holds; `last` the last generation; `notices` what went otherwise than
    hoped while loading; `source` where the files came from ("fromStore", "kept", "sha256").
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self.info: dict[str, Any] = model.info.to_py()
        self.source: dict[str, Any] = model.source.to_py()
        self.notices: list[str] = [notice.message for notice in model.notices]
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
        *,
        logprobs: int | None = None,
        logit_bias: Mapping[int, float] | None = None,
        **sampling_options: float,
    ) -> WorkerGeneration:
        """Continues `prompt`: an async iterator of pieces of text, cancellable at every token. The options
        are those of `ruvq.Model.generate`; the same seed gives the same text as there."""
        options = _sampling(
            temperature, top_p, min_p, top_k, seed, stop, logprobs, logit_bias, **sampling_options
        )
        options.maxTokens = max_tokens
        self.last = WorkerGeneration(self._model.generate(prompt, options))
        return self.last

    def stream_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        max_tokens: int | None = None,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        template: str | None = None,
        variables: Mapping[str, Any] | None = None,
        temperature: float = 0.8,
        top_p: float = 0.95,
        min_p: float = 0.0,
        top_k: int = 0,
        seed: int | None = None,
        stop: str | Sequence[str] | None = None,
    ) -> WorkerGeneration:
        """The assistant's answer to messages, with the file's own chat template: as `ruvq.Model.chat`, to be
        read with `async for`. The template runs in the worker. Reading it raises TemplateError, UsageError,
        ContextFullError."""
        options = _sampling(temperature, top_p, min_p, top_k, seed, stop)
        given = {"maxTokens": max_tokens, "tools": tools, "template": template, "variables": variables}
        for name, value in given.items():
            if value is not None:
                setattr(options, name, _plain_object(value))
        self.last = WorkerGeneration(self._model.chat(_plain_object(messages), options))
        return self.last

    def chat(
        self, messages: Sequence[Mapping[str, Any]], max_tokens: int | None = None, **options: Any
    ) -> Iterator[str]:
        """`stream_chat` for a plain `for`; works and fails where `generate` does."""
        return self._in_turn("chat", lambda: self.stream_chat(messages, max_tokens, **options))

    def generate(self, prompt: str, max_tokens: int = 256, **options: Any) -> Iterator[str]:
        """`stream` for a plain `for`, where Pyodide can wait for JavaScript in synchronous code (Chromium
        from version 137). Raises UsageError elsewhere: use `async for piece in model.stream(...)`."""
        return self._in_turn("generate", lambda: self.stream(prompt, max_tokens, **options))

    def _in_turn(self, name: str, start: Callable[[], WorkerGeneration]) -> Iterator[str]:
        from pyodide.ffi import can_run_sync, run_sync

        if not can_run_sync():
            raise UsageError(
                "this browser can't wait for a worker in synchronous code",
                subject=name,
                hint="use `async for` with stream or stream_chat, or ruvq.Model.open in this thread",
            )
        pieces = start()
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

    async def embed(self, text: str, normalize: bool = True) -> list[float]:
        """The embedding of a text, as `ruvq.Model.embed` gives it."""
        return list((await _awaited(self._model.embed(text, _options(normalize=normalize)))).to_py())

    async def load_adapter(
        self, url: str, scale: float = 1.0, *, cache: str = "default", sha256: str | None = None
    ) -> Any:
        """Computes with a LoRA adapter from now on, as `ruvq.Model.load_adapter` does: an Adapter of ruvq.js,
        whose `setScale` and `unload` are awaited. The file is fetched and kept as `fetch` does it."""
        options = _options(scale=scale, cache=cache, sha256=sha256)
        return await _awaited(self._model.loadAdapter(url, options))

    async def unload_adapter(self) -> None:
        """Computes without any adapter."""
        await _awaited(self._model.unloadAdapter())

    async def metadata(self, key: str) -> Any:
        """A value of the file's metadata; None when it hasn't got it."""
        value = await _awaited(self._model.metadata(key))
        return value.to_py() if hasattr(value, "to_py") else value

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
        stats = self._generation.stats
        if hasattr(stats, "to_py"):  # not JavaScript's null: an error has no statistics
            self.stats = stats.to_py()

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
