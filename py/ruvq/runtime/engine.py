"""The core's model as an object: memory, options, feeding tokens, logits, sampling. No text here.

Every call is short (one step of at most `batch_tokens` tokens), so that a caller can stop between two.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .. import core
from ..core import CONSTANTS, Allocation, structs
from ..errors import MemoryLimitError, UsageError
from .threads import Pool, choose

if TYPE_CHECKING:
    from ..gguf import GGUFFile

__all__ = ["Engine", "ModelInfo", "Sampling"]

_KERNEL_FLAGS = {
    "best": 0,
    "scalar": CONSTANTS["RQ_MODEL_SCALAR"],
    "simd128": CONSTANTS["RQ_MODEL_SIMD128"],
    "avx2": CONSTANTS["RQ_MODEL_AVX2"],
}
_KV_FLAGS = {"f16": 0, "f32": CONSTANTS["RQ_MODEL_KV_F32"]}
_INT32_MAX = 2**31 - 1
RESIDUAL = 5  # the end of a layer, as `stage` counts its inputs


@dataclass(frozen=True)
class ModelInfo:
    """What a model is. Widths in weights, sizes in bytes."""

    architecture: str
    name: str
    vocab_size: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    ff_width: int
    context_trained: int
    context_tokens: int
    batch_tokens: int
    rope_width: int
    rope_neox: int
    tied_output: int
    hadamard_tensors: int
    rope_base: float
    rope_scale: float
    rms_epsilon: float
    weight_bytes: int
    kv_bytes: int
    memory_bytes: int
    parameters: int


@dataclass(frozen=True)
class Sampling:
    """How a token is drawn: temperature first (0: greedy), then the most typical tokens that reach
    `typical_p` (1: all), then the `top_k` best (0: all), then the shortest run of the best that reaches
    `top_p` (1: all), then those of at least `min_p` times the best (0: all). With `mirostat_tau` above 0,
    Mirostat 2 takes the filters' place: it aims at that many bits of surprise, and follows them at the rate
    `mirostat_eta`.

    Before that `logit_bias` is added to the logits (token id → number, -inf: never), and tokens among the
    last `penalty_tokens` of prompt and text are made less likely: their logits are divided by
    `repeat_penalty` (1: off), and lose `presence_penalty`, and `frequency_penalty` for each time (0: off).

    The same seed gives the same tokens on every host; None draws a seed, which is then in `seed`."""

    temperature: float = 0.8
    top_p: float = 0.95
    min_p: float = 0.0
    top_k: int = 0
    seed: int | None = None
    typical_p: float = 1.0
    mirostat_tau: float = 0.0
    mirostat_eta: float = 0.1
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    penalty_tokens: int = 64
    logit_bias: Mapping[int, float] = field(default_factory=dict)

    @property
    def penalizes(self) -> bool:
        """Whether any penalty is on."""
        return (self.repeat_penalty, self.presence_penalty, self.frequency_penalty) != (1, 0, 0)

    def __post_init__(self) -> None:
        seed = secrets.randbits(64) if self.seed is None else self.seed
        if not 0 <= seed < 2**64:
            raise UsageError(
                "the seed is out of range", subject="seed", expected="0 to 2^64 - 1", actual=str(seed)
            )
        if not 0 <= self.top_k <= _INT32_MAX:
            raise UsageError(
                "top_k is out of range", subject="top_k", expected="0 or more", actual=str(self.top_k)
            )
        if not 0 <= self.penalty_tokens <= CONSTANTS["RQ_MAX_RECENT"]:
            raise UsageError(
                "penalty_tokens is out of range",
                subject="penalty_tokens",
                expected=f"0 to {CONSTANTS['RQ_MAX_RECENT']}",
                actual=str(self.penalty_tokens),
            )
        object.__setattr__(self, "seed", seed)
        object.__setattr__(self, "logit_bias", dict(self.logit_bias))


def check_budget(needed: int, limit: int | None, subject: str) -> None:
    """MemoryLimitError when more bytes are needed than the host allows; None: as many as there are."""
    if limit is None or needed <= limit:
        return
    raise MemoryLimitError(
        "the model doesn't fit into its memory limit",
        subject=subject or "memory_budget",
        expected=f"at most {limit:,} bytes",
        actual=f"{needed:,} bytes of file, KV cache and activations",
        hint="use a format of fewer bits or a shorter context, or allow more",
    )


class Engine:
    """A model opened in the core. `file` must stay open as long as it is used."""

    def __init__(
        self,
        file: GGUFFile,
        *,
        context: int | None = None,
        batch: int | None = None,
        kv: str = "f16",
        hashes: bool = False,
        scalar: bool = False,
        kernels: str = "best",
        threads: int | None = 1,
        split_all: bool = False,
        memory_budget: int | None = None,
    ) -> None:
        """`threads` and `memory_budget` as in `ruvq.Model.open`; `split_all` shares out even small work, for
        tests.

        Raises ModelError, FileFormatError and UsageError as the model and the options deserve, and
        MemoryLimitError when there is no memory for weights' companions and the KV cache. `kernels`: "best"
        of this machine, or nothing beyond "avx2", "simd128" or "scalar", for comparison."""
        if kv not in _KV_FLAGS:
            raise UsageError("unknown kind of KV cache", subject="kv", expected="f16 or f32", actual=str(kv))
        self._core = core.get()
        self.keeps_hashes = hashes
        flags = CONSTANTS["RQ_MODEL_ALL_LOGITS"] | _KV_FLAGS[kv]
        flags |= CONSTANTS["RQ_MODEL_HASHES"] if hashes else 0
        flags |= _KERNEL_FLAGS["scalar" if scalar else kernels]
        options = structs.pack(
            "rq_model_options",
            context_tokens=_checked("context", context),
            batch_tokens=_checked("batch", batch),
            flags=flags,
            threads=choose(threads, self._core.host),
        )
        self._pool: Pool | None = None
        self._memory = self._open(file, options, memory_budget)
        self.info = self._describe(file)
        self._small: list[Allocation] = []
        self._tokens = self._take(4 * self.info.context_tokens)
        self._scratch = self._take(self._core.call("rq_sample_scratch", self.info.vocab_size))
        self._sampler = self._take(structs.size("rq_sampler"))
        self._number = self._take(4)
        self._biases: Allocation | None = None
        self._adjusted_logits: Allocation | None = None
        self.keep_all_logits(False)
        if (wanted := structs.unpack("rq_model_options", options)["threads"]) > 1:
            self._pool = Pool(self._core, wanted, split_all=split_all)
            self._core.call("rq_model_use_pool", self._memory.address, self._pool.address)

    @property
    def threads(self) -> int:
        """Threads that compute."""
        return self._pool.threads if self._pool else 1

    def _take(self, nbytes: int) -> Allocation:
        allocation = self._core.alloc(nbytes)
        self._small.append(allocation)
        return allocation

    def _open(self, file: GGUFFile, options: bytes, budget: int | None) -> Allocation:
        backend = self._core
        with backend.alloc(len(options)) as given, backend.alloc(8) as number:
            backend.write(given.address, options)
            where = (file.index_address, file.data_address, given.address)
            backend.call("rq_model_measure", *where, number.address)
            needed = int.from_bytes(backend.read(number.address, 8), "little")
            check_budget(file.memory_bytes + needed, budget, file.subject)
            memory = backend.alloc(needed)
            try:
                backend.call("rq_model_open", *where, memory.address, memory.end)
            except BaseException:
                memory.free()
                raise
        return memory

    def _describe(self, file: GGUFFile) -> ModelInfo:
        with self._core.alloc(structs.size("rq_model_info")) as out:
            self._core.call("rq_model_describe", self._memory.address, out.address)
            fields = structs.unpack("rq_model_info", self._core.read(out.address, out.nbytes))
        del fields["reserved"]
        name = file.metadata.get("general.name", "")
        return ModelInfo(architecture=file.architecture, name=name if isinstance(name, str) else "", **fields)

    # ---- computing ----

    @property
    def address(self) -> int:
        """Where the model lies in the core's memory, for adapters."""
        return self._memory.address

    @property
    def position(self) -> int:
        """Tokens computed so far."""
        return self._core.raw("rq_model_position", self._memory.address)

    def feed(self, tokens: Sequence[int]) -> None:
        """Appends tokens to those that wait. UsageError (id outside the vocabulary), ContextFullError."""
        if len(tokens) > self.info.context_tokens:  # more than `_tokens` holds: let the core word the refusal
            self._core.call("rq_model_feed", self._memory.address, self._tokens.address, len(tokens))
        packed = b"".join(_checked_id(t, self.info.vocab_size).to_bytes(4, "little") for t in tokens)
        self._core.write(self._tokens.address, packed or bytes(4))
        self._core.call("rq_model_feed", self._memory.address, self._tokens.address, len(tokens))

    def step(self) -> int:
        """Computes up to `batch_tokens` of the waiting tokens; how many still wait. DataError on NaN."""
        return self._core.call("rq_model_step", self._memory.address)

    def truncate(self, position: int) -> None:
        """Forgets all tokens from `position` on, waiting ones too."""
        self._core.call("rq_model_truncate", self._memory.address, position)

    def keep_all_logits(self, every: bool) -> None:
        """Whether a step keeps the logits of each of its tokens, or only of the last token of all."""
        self._core.call("rq_model_keep_logits", self._memory.address, int(every))

    # ---- calibration ----

    def moments(self, layer: int, diagonal: bool = False) -> int:
        """Floats that a stage of this layer sums into."""
        with self._core.alloc(8) as number:
            self._core.call("rq_model_moments", self._memory.address, layer, int(diagonal), number.address)
            return int.from_bytes(self._core.read(number.address, 8), "little")

    def stage(
        self, rows: int, layer: int = 0, until: int = RESIDUAL, moments: int = 0, diagonal: bool = False
    ) -> None:
        """From now on a step computes one layer, or a part of it; see rq_model_stage. `rows`, `moments`:
        addresses in the core's memory, 0 for none; `rows` 0 ends it."""
        where = (self._memory.address, rows, layer, until, moments, int(diagonal))
        self._core.call("rq_model_stage", *where)

    def tap(self, input: int) -> int:
        """Address of the last step's input: float32 (tokens of the step, width)."""
        return self._core.raw("rq_model_tap", self._memory.address, input)

    # ---- results ----

    @property
    def logits_rows(self) -> int:
        """Tokens of the last step whose logits are there."""
        return self._core.raw("rq_model_logits_rows", self._memory.address)

    def _row(self, row: int) -> int:
        address = self._core.raw("rq_model_logits", self._memory.address)
        return address + 4 * self.info.vocab_size * (self.logits_rows - 1 if row < 0 else row)

    def logits(self) -> bytes:
        """float32 (logits_rows, vocab_size) of the last step, as bytes."""
        return self._core.read(self._row(0), 4 * self.info.vocab_size * self.logits_rows)

    def log_probability(self, token: int, row: int = -1) -> float:
        """Natural logarithm of the probability of `token` after the last step's token `row`."""
        where = (self._row(row), self.info.vocab_size, token, self._number.address)
        self._core.call("rq_log_probability", *where)
        return memoryview(self._core.read(self._number.address, 4)).cast("f")[0]

    def start_sampling(self, sampling: Sampling) -> None:
        """Sets the sampler's options and its generator to the seed. UsageError for options out of range."""
        seed = sampling.seed or 0
        numbers = ("temperature", "typical_p", "top_p", "min_p", "mirostat_tau", "mirostat_eta")
        penalties = ("repeat_penalty", "presence_penalty", "frequency_penalty")
        fields = {name: float(getattr(sampling, name)) for name in (*numbers, *penalties)}
        how = structs.pack("rq_sampling", top_k=sampling.top_k, **fields)
        with self._core.alloc(len(how)) as given:
            self._core.write(given.address, how)
            words = (seed & 0xFFFFFFFF, seed >> 32)
            self._core.call("rq_sampler_init", self._sampler.address, *words, given.address)
        self._set_biases(sampling.logit_bias)

    def _set_biases(self, biases: Mapping[int, float]) -> None:
        """Places them where the core finds them."""
        if self._biases is not None:
            self._biases.free()
            self._biases = None
        if biases:
            ids = [(_checked_id(token, self.info.vocab_size), float(bias)) for token, bias in biases.items()]
            packed = b"".join(struct.pack("<if", *entry) for entry in ids)
            self._biases = self._core.alloc(len(packed))
            self._core.write(self._biases.address, packed)

    def sample(self, recent: Sequence[int] = ()) -> int:
        """A token drawn from the last token's logits; `recent`: the tokens that the penalties are about."""
        logits = self._adjusted(recent) if recent or self._biases is not None else self._row(-1)
        scratch = self._scratch
        where = (self._sampler.address, logits, self.info.vocab_size, scratch.address, scratch.end)
        return self._core.call("rq_sample", *where)

    def _adjusted(self, recent: Sequence[int]) -> int:
        """Where the logits lie with biases and penalties."""
        if self._adjusted_logits is None:
            self._adjusted_logits = self._take(4 * self.info.vocab_size)
        biases, count = (0, 0) if self._biases is None else (self._biases.address, self._biases.nbytes // 8)
        with self._core.place(struct.pack(f"<{len(recent)}i", *recent) or b"\0") as given:
            out = self._adjusted_logits.address
            where = (self._sampler.address, self._row(-1), self.info.vocab_size, biases, count)
            self._core.call("rq_adjust_logits", *where, given.address, len(recent), out)
        return out

    def top_log_probabilities(self, count: int) -> list[tuple[int, float]]:
        """The `count` likeliest tokens after the last one, with the logarithms of their probabilities, before
        biases and penalties. UsageError above RQ_MAX_TOP or the vocabulary."""
        with self._core.alloc(8 * max(count, 1)) as out:
            logprobs = out.address + 4 * count
            self._core.call(
                "rq_top_log_probabilities", self._row(-1), self.info.vocab_size, count, out.address, logprobs
            )
            raw = self._core.read(out.address, 8 * count)
        tokens = struct.unpack(f"<{count}i", raw[: 4 * count])
        return list(zip(tokens, struct.unpack(f"<{count}f", raw[4 * count :]), strict=True))

    def keep_states(self, on: bool) -> None:
        """While on, steps compute no logits but sum up the last states, from nothing on, for `embedding`."""
        self._core.call("rq_model_keep_states", self._memory.address, int(on))

    def embedding(self, normalize: bool) -> list[float]:
        """Mean (width) of the states behind the last norm over the tokens since `keep_states`."""
        width = self.info.width
        with self._core.alloc(4 * width) as out:
            self._core.call("rq_model_embedding", self._memory.address, int(normalize), out.address)
            return list(struct.unpack(f"<{width}f", self._core.read(out.address, out.nbytes)))

    def hashes(self) -> list[int]:
        """Hashes (layers + 2): after the embedding, after each layer, of the logits; of all tokens so far."""
        if not self.keeps_hashes:
            raise UsageError("the model keeps no hashes", hint="open it with hashes=True")
        address = self._core.raw("rq_model_hashes", self._memory.address)
        return memoryview(self._core.read(address, 4 * (self.info.layers + 2))).cast("I").tolist()

    def close(self) -> None:
        """Ends the threads and gives all memory back. May be called twice."""
        if self._pool:
            self._pool.close()
        for allocation in (*self._small, self._memory, *([self._biases] if self._biases else [])):
            allocation.free()
        self._small = []
        self._biases = None

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _checked(name: str, value: int | None) -> int:
    """An option for the core, where 0 means its default."""
    if value is None:
        return 0
    if not 1 <= value <= _INT32_MAX:
        raise UsageError("an option is out of range", subject=name, expected="1 or more", actual=str(value))
    return value


def _checked_id(token: Any, vocab_size: int) -> int:
    value = int(token)
    if not 0 <= value < vocab_size:
        raise UsageError(
            "a token id is outside the vocabulary",
            expected=f"0 to {vocab_size - 1}",
            actual=str(value),
            hint="use the tokenizer of the same file",
            code="RQ_E_TOKEN",
        )
    return value
