"""ruvq.Model: a GGUF file that generates text.

    with ruvq.Model.open("model.gguf") as model:
        for piece in model.generate("Once upon a time", max_tokens=100, seed=1):
            print(piece, end="", flush=True)

Needs neither NumPy nor cffi in Pyodide. One model is used by one thread at a time; several models may
run in several threads.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..gguf import GGUFFile
from . import tokenizer_check
from .adapter import Adapter, Adapting
from .chatting import Chatting
from .engine import Engine, ModelInfo, Sampling, check_budget
from .generation import Generation, Stats, check_prompt
from .tokenizer import Tokenizer
from .windows import WINDOW, eval_windows

if TYPE_CHECKING:
    from ..gguf.reader import GGUFInput

__all__ = ["Adapter", "Generation", "Model", "ModelInfo", "Perplexity", "Sampling", "Stats"]


_TOKENIZER_KEY = "tokenizer.ggml.model"


def _known_size(source: Any) -> int:
    """Bytes of a path or buffer; 0 where only reading tells, or what is wrong with the path."""
    if isinstance(source, (list, tuple)):
        return sum(map(_known_size, source))
    if isinstance(source, (str, os.PathLike)):
        return os.stat(source).st_size if os.path.isfile(source) else 0
    return 0 if hasattr(source, "read") else memoryview(source).nbytes


class Perplexity(float):
    """exp of the mean negative log-likelihood, with `stderr` (over windows), `tokens` and `windows`."""

    stderr: float
    tokens: int
    windows: int

    @classmethod
    def of(cls, windows: Sequence[Sequence[float]]) -> Perplexity:
        """From the log-probabilities of each window."""
        used = [w for w in windows if w]
        tokens = sum(len(w) for w in used)
        if tokens == 0:
            raise UsageError(
                "nothing to predict", subject="text", expected="at least one token", actual="none"
            )
        losses = [-math.fsum(w) for w in used]
        mean = math.fsum(losses) / tokens
        value = cls(math.exp(mean) if mean < 700 else math.inf)  # beyond what a float holds
        value.windows = len(used)
        if len(used) == 1:  # one window has no spread: take that of its tokens
            used, losses = [[x] for x in used[0]], [-x for x in used[0]]
        spread = math.fsum((loss - mean * len(w)) ** 2 for loss, w in zip(losses, used, strict=True))
        factor = len(used) / (len(used) - 1) if len(used) > 1 else 0.0
        value.stderr = float(value) * math.sqrt(factor * spread) / tokens
        value.tokens = tokens
        return value


class Model(Adapting, Chatting):
    """An open model. Use it in a `with`, or `close()` it.

    Attributes: `info` (ModelInfo), `tokenizer` (Tokenizer), `last` (the last Generation, or None).
    """

    def __init__(self, file: GGUFFile, engine: Engine) -> None:
        """Takes over both; `Model.open` makes them."""
        self._file: GGUFFile | None = file
        self._engine: Engine | None = engine
        self._tokenizer: Tokenizer | None = None
        self._history: list[int] = []  # tokens the engine has computed or is about to
        self.info: ModelInfo = engine.info
        self.last: Generation | None = None

    @classmethod
    def open(
        cls,
        source: GGUFInput | Sequence[GGUFInput],
        *,
        context: int | None = None,
        kv: str = "f16",
        hashes: bool = False,
        verify: bool = False,
        batch: int | None = None,
        scalar: bool = False,
        threads: int | None = None,
        sha256: str | None = None,
        memory_budget: int | None = None,
    ) -> Model:
        """Opens a path (mapped, not read, on the desktop), the bytes of a file, or a binary file object; of a
        model in several files the first shard's path, or a list of all shards in order.

        `context`: most tokens of prompt and answer together; None: what the model was trained for, at
        most 4096. `kv`: the KV cache's numbers, "f16" or "f32". `hashes`: keep a hash of the activations
        after every layer. `verify`: check all weights and recorded digests first. `sha256`: of the whole
        file, 64 hexadecimal digits from somebody you trust, compared before anything of it is used.
        `memory_budget`: most bytes that the file, its index, KV cache and activations may take together.
        `batch`: prompt tokens of one step. `scalar`: the plain kernels (slow; the results are the same).
        `threads`: how many compute (the results are the same); None: the physical cores, at most 8. In
        Pyodide `open` has one thread, `fetch` more where the page allows it. A vocabulary that is there is
        checked too, used or not; without one a model takes and gives ids. Raises StorageError,
        FileFormatError, VersionError, IntegrityError, DataError, ModelError, UsageError, TokenizerError,
        MemoryLimitError."""
        check_budget(_known_size(source), memory_budget, "")  # before any of it is read
        file = GGUFFile.open(source)
        try:
            if sha256 is not None:
                file.check_sha256(sha256)
            if verify:
                file.verify().raise_first()
            tokenizer = None
            if _TOKENIZER_KEY in file.metadata:
                tokenizer = Tokenizer.from_gguf(file)
                tokenizer_check.check(file, tokenizer)
            engine = Engine(
                file,
                context=context,
                kv=kv,
                hashes=hashes,
                batch=batch,
                scalar=scalar,
                threads=threads,
                memory_budget=memory_budget,
            )
            model = cls(file, engine)
            model._tokenizer = tokenizer
            return model
        except BaseException:
            file.close()
            raise

    @classmethod
    async def fetch(cls, url: str | Sequence[str], **options: Any) -> Any:
        """In Pyodide: loads a model into an engine in a worker of the page, from the browser's store if it is
        kept there, else from the network straight into the engine's memory; then it is kept.

        `url`: of a file, of the first shard of a model in several (NAME-00001-of-00003.gguf), or a list of
        all shards. Options: `progress` (called with phase, bytes so far, and bytes in all or None), `notice`
        (called with a sentence where a file isn't kept or was damaged), `cache` ("default"; "reload": fetch
        anew; "no-store": keep nothing; "only-if-cached": no network), `sha256` (what the file must be; a
        list for shards) and `nbytes` (its size), `memory_budget` (most bytes of the engine's memory; default
        1 GiB on phones), `context`, `kv`, `hashes`, `verify` as in `open`, `threads` (None: the device's
        cores, at most 8, where the page is cross-origin isolated; else one, and `info["threadsNote"]` says
        why). Cancelling the task stops the download, which the next `fetch` goes on with. Gives a
        `ruvq.browser.worker_model.WorkerModel`, whose `stream` is cancellable at every token.
        Raises DownloadError, IntegrityError and what `open` raises; UsageError outside of a browser.
        """
        if sys.platform != "emscripten":
            raise UsageError(
                "fetch needs a browser",
                subject=str(url),
                hint="download the file and use ruvq.Model.open(path)",
            )
        from ..browser.worker_model import fetch

        return await fetch(url, **options)

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The file's metadata by key; arrays are read when they are asked for."""
        self._open_engine()
        assert self._file is not None
        return self._file.metadata

    @property
    def tokenizer(self) -> Tokenizer:
        """The file's tokenizer, which outlives the model. TokenizerError when the file has none, or one that
        isn't what the file records of it."""
        if self._tokenizer is None:
            self._open_engine()
            assert self._file is not None
            tokenizer = Tokenizer.from_gguf(self._file)
            tokenizer_check.check(self._file, tokenizer)
            self._tokenizer = tokenizer
        return self._tokenizer

    # ---- text ----

    def generate(
        self,
        prompt: str | Sequence[int],
        max_tokens: int = 256,
        temperature: float = 0.8,
        top_p: float = 0.95,
        min_p: float = 0.0,
        top_k: int = 0,
        seed: int | None = None,
        stop: str | Sequence[str] | None = None,
        *,
        logprobs: int | None = None,
        **sampling_options: Any,
    ) -> Generation:
        """Continues `prompt` (text, to which BOS is added as the file says, or token ids as they are).

        Gives an iterator of pieces of text in whole characters. It ends at an end token, at a `stop` string
        (which isn't given), after `max_tokens` tokens or when the context is full: see `finish_reason`.
        Starting another generation ends this one. What the KV cache already holds of the prompt is not
        computed again, which changes nothing in the result. `logprobs`: keep the log-probability of each
        token, and of so many likeliest ones, in `generation.logprobs`. `sampling_options`: the other fields
        of `Sampling`: typical_p, mirostat_tau, mirostat_eta, repeat_penalty, presence_penalty,
        frequency_penalty, penalty_tokens, logit_bias.
        Raises ContextFullError for a prompt longer than the context, UsageError for options out of range.
        """
        if max_tokens < 0:
            raise UsageError(
                "max_tokens is out of range",
                subject="max_tokens",
                expected="0 or more",
                actual=str(max_tokens),
            )
        tokens = self._prompt_tokens(prompt)
        check_prompt(tokens, self.info.context_tokens)
        try:
            sampling = Sampling(temperature, top_p, min_p, top_k, seed, **sampling_options)
        except TypeError as error:
            raise UsageError("unknown option of generate", actual=str(error)) from None
        self._open_engine().start_sampling(sampling)  # options are refused here, not at the first piece
        stops = [stop] if isinstance(stop, str) else list(stop or ())
        if self.last is not None:
            self.last.close()
        at_start = isinstance(prompt, str) and not prompt
        self.last = Generation(self, tokens, max_tokens, sampling, stops, at_start, logprobs)
        return self.last

    def stream(self, prompt: str | Sequence[int], max_tokens: int = 256, **options: Any) -> Generation:
        """`generate` for `async for`: the event loop gets a turn before every token, and may cancel there."""
        return self.generate(prompt, max_tokens, **options)

    def _prompt_tokens(self, prompt: str | Sequence[int]) -> list[int]:
        if not isinstance(prompt, str):
            return [int(t) for t in prompt]
        tokenizer = self.tokenizer
        begin = [tokenizer.bos] if tokenizer.add_bos and tokenizer.bos is not None else []
        return begin + tokenizer.encode(prompt)

    # ---- numbers ----

    def logits(self, tokens: Sequence[int]) -> Any:
        """The logits after each of `tokens`, computed from an empty context: float32 (tokens, vocab_size), a
        NumPy array where NumPy is loaded, otherwise a memoryview. Raises ContextFullError, UsageError."""
        tokens = [int(t) for t in tokens]
        out = bytearray()
        for _ in self._all_logits(tokens):
            out += self._open_engine().logits()
        shape = (len(tokens), self.info.vocab_size)
        if "numpy" in sys.modules:
            return sys.modules["numpy"].frombuffer(out, "<f4").reshape(shape)
        return memoryview(out).cast("f", shape=shape)

    def score(self, tokens: Sequence[int]) -> list[float]:
        """The natural logarithm of the probability of every token but the first, given those before it."""
        tokens = [int(t) for t in tokens]
        out: list[float] = []
        for first in self._all_logits(tokens):
            engine = self._open_engine()
            following = tokens[first + 1 : first + 1 + engine.logits_rows]
            out += [engine.log_probability(token, row) for row, token in enumerate(following)]
        return out

    def _all_logits(self, tokens: list[int]) -> Any:
        """Computes `tokens` from an empty context; yields the position of the first token of each step."""
        engine = self._open_engine()
        check_prompt(tokens, self.info.context_tokens)
        self.reset()
        engine.keep_all_logits(True)
        try:
            self._history = list(tokens)
            engine.feed(tokens)
            waiting = len(tokens)
            while waiting:
                first = len(tokens) - waiting
                waiting = engine.step()
                yield first
        finally:
            if self._engine is not None:
                engine.keep_all_logits(False)

    def embed(self, text: str, normalize: bool = True) -> list[float]:
        """The embedding of a text (width): the mean of the states behind the last norm over its tokens, of
        length 1 unless `normalize` is False. Ends a generation that runs. ContextFullError, UsageError."""
        tokens = self._prompt_tokens(text)
        check_prompt(tokens, self.info.context_tokens)
        if self.last is not None:
            self.last.close()
        self.reset()
        engine = self._open_engine()
        engine.keep_states(True)
        try:
            engine.feed(tokens)
            while engine.step():
                pass
            return engine.embedding(normalize)
        finally:
            engine.keep_states(False)
            self.reset()

    def perplexity(self, text: str, window: int = WINDOW) -> Perplexity:
        """Perplexity of a text by the protocol of docs/formats.md: split at <|endoftext|>, each piece with
        BOS, windows of `window` tokens (or the context, if smaller) without overlap. UsageError when there
        is nothing to predict."""
        size = min(window, self.info.context_tokens)
        return Perplexity.of([self.score(tokens) for tokens in eval_windows(text, self.tokenizer, size)])

    def hashes(self) -> list[int]:
        """32-bit hashes (layers + 2) of the activations of all tokens since the context was empty: after the
        embedding, after each layer, of the logits. The same on every host. Needs `hashes=True` at open."""
        return self._open_engine().hashes()

    @property
    def stats(self) -> Stats:
        """Of the last generation."""
        return self.last.stats if self.last is not None else Stats()

    # ---- state ----

    def reset(self) -> None:
        """Forgets all tokens."""
        self._history = []
        self._open_engine().truncate(0)

    def close(self) -> None:
        """Gives memory and file back. May be called twice."""
        if self.last is not None:
            self.last.close()
        if self._adapters:
            self.unload_adapter()
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._engine is None else f"{self.info.parameters} parameters"
        return f"<Model {self.info.name or self.info.architecture}: {state}>"

    # ---- for Generation ----

    def _open_engine(self) -> Engine:
        if self._engine is None:
            raise UsageError("the model is closed", hint="open it again")
        return self._engine

    def _engine_for(self, generation: Generation) -> Engine:
        engine = self._open_engine()
        if self.last is not generation:
            raise UsageError(
                "another generation has started", hint="finish one before the next, or open two models"
            )
        return engine

    def _begin(self, prompt: list[int]) -> int:
        """Feeds a prompt behind what the cache shares with it; how many tokens that is."""
        engine = self._open_engine()
        known = self._history[: engine.position]
        shared = 0
        if not engine.keeps_hashes:  # hashes are of all tokens from the beginning
            limit = min(len(known), len(prompt) - 1)  # the last token is computed for its logits
            while shared < limit and known[shared] == prompt[shared]:
                shared += 1
        engine.truncate(shared)
        self._history = list(prompt)
        engine.feed(prompt[shared:])
        return shared

    def _append(self, token: int) -> None:
        """Computes one more token."""
        self._history.append(token)
        engine = self._open_engine()
        engine.feed([token])
        engine.step()

    def _recent(self, sampling: Sampling) -> list[int]:
        """The tokens that penalties are about."""
        if not sampling.penalizes or sampling.penalty_tokens == 0:
            return []
        return self._history[-sampling.penalty_tokens :]

    def _step(self) -> int:
        return self._open_engine().step()
