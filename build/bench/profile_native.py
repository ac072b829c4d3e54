"""The native half of token_profile.py, in a process of its own because it may load another build of the core:
RUVQ_LIBRARY names it. Prints one JSON object.

    RUVQ_LIBRARY=out/bench/profile/libruvq.so python build/bench/profile_native.py FILE

With the build that ships (no clock inside) only whole tokens are timed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).resolve().parent), str(ROOT / "py")]

from native import warm_up  # noqa: E402
from ruvq import core  # noqa: E402
from ruvq.core import CONSTANTS, structs  # noqa: E402
from ruvq.gguf import GGUFFile  # noqa: E402
from ruvq.runtime.engine import Engine, Sampling  # noqa: E402

OPERATIONS = {
    name.removeprefix("RQ_OP_").lower(): number
    for name, number in CONSTANTS.items()
    if name.startswith("RQ_OP_") and name != "RQ_OP_COUNT"
}
LEAST_SECONDS = 0.002  # of a timed piece


def has_clock() -> bool:
    """Whether the core that is loaded books its time."""
    native: Any = core.get()
    try:
        return native.lib.rq_model_profile is not None
    except native.ffi.error:
        return False


def address_of(engine: Engine) -> int:
    """The model in the core's memory."""
    return engine._memory.address


def read_profile(engine: Engine) -> dict[str, float]:
    """Seconds by operation since the last reset."""
    c = core.get()
    with c.alloc(structs.size("rq_profile")) as memory:
        c.call("rq_model_profile", address_of(engine), memory.address)
        seconds = structs.unpack("rq_profile", c.read(memory.address, memory.nbytes))["seconds"]
    return {name: seconds[number] for name, number in OPERATIONS.items()}


def one_round(engine: Engine, context: int, tokens: int, clock: bool) -> dict[str, Any]:
    """A round of `tokens` tokens after `context` others: seconds a token, and what they were spent on."""
    engine.truncate(context)  # what is there is the text before
    engine.feed([(context + 1) % engine.info.vocab_size])
    engine.step()
    if clock:
        core.get().call("rq_model_profile_reset", address_of(engine))
    sampling = 0.0
    start = time.perf_counter()
    for _ in range(tokens):
        before = time.perf_counter()
        token = engine.sample()
        sampling += time.perf_counter() - before
        engine.feed([token])
        engine.step()
    result: dict[str, Any] = {
        "token_s": (time.perf_counter() - start) / tokens,
        "sampling_s": sampling / tokens,
    }
    if clock:
        result["operations_s"] = {name: s / tokens for name, s in read_profile(engine).items()}
    return result


def after_text(engine: Engine, context: int, tokens: int, rounds: int, clock: bool) -> dict[str, Any]:
    """The fastest round after a text of `context` tokens, and how far the others lay apart."""
    have = min(engine.position, context)
    engine.truncate(have)
    engine.feed([(i + 1) % engine.info.vocab_size for i in range(have, context)])
    while engine.step():
        pass
    results = [one_round(engine, context, tokens, clock) for _ in range(rounds)]
    best = min(results, key=lambda r: r["token_s"])
    return best | {"slowest_token_s": max(r["token_s"] for r in results)}


def cached_products(engine: Engine, matrices: list[list[int]], rounds: int) -> list[float]:
    """Seconds of one product of every [layer, operation], its weights in the nearest cache."""
    c = core.get()

    def seconds(layer: int, operation: int, repeats: int) -> float:
        engine.truncate(1)
        engine.feed([1])
        engine.step()  # logits, which the call multiplies with
        start = time.perf_counter()
        c.call("rq_model_profile_cached", address_of(engine), layer, operation, repeats)
        return (time.perf_counter() - start) / repeats

    found = []
    for layer, operation in matrices:
        repeats = max(1, round(LEAST_SECONDS / seconds(layer, operation, 1)))
        found.append(min(seconds(layer, operation, repeats) for _ in range(rounds)))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--contexts", type=int, nargs="+", default=[128])
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--matrices", default="[]", help="JSON: [[layer, operation], ...] for products from cache"
    )
    options = parser.parse_args()
    clock = has_clock()
    with (
        GGUFFile.open(options.model) as file,
        Engine(file, context=max(options.contexts) + options.tokens + 2) as engine,
    ):
        engine.start_sampling(Sampling(temperature=0.0, top_p=1.0, seed=0))
        warm_up(engine)
        after = {
            str(n): after_text(engine, n, options.tokens, options.rounds, clock)
            for n in sorted(options.contexts)
        }
        cached = cached_products(engine, json.loads(options.matrices), options.rounds) if clock else []
    variant = core.get().raw("rq_variant", CONSTANTS["RQ_SIMD"])
    names = {CONSTANTS[f"RQ_{n}"]: n for n in ("SCALAR", "SIMD128", "AVX2", "AVX512")}
    print(json.dumps({"after": after, "cached_s": cached, "kernels": names[variant]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
