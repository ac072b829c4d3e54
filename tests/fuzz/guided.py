"""Runs a Python fuzz target: guided by coverage where atheris is installed, else by seeded mutation.

Atheris has wheels for CPython 3.11 to 3.13. Elsewhere inputs are mutations of the start corpus, the same in
every run, and the limits are kept by the operating system; the first line of output says which one runs.
Options of either are libFuzzer's: -max_total_time=60 -runs=100000 -artifact_prefix=FOLDER/.
"""

from __future__ import annotations

import contextlib
import random
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

try:
    import atheris
except ImportError:
    atheris = None

HANG_SECONDS = 10
MOST_MEMORY_MB = 2048
LONGEST = 8192  # bytes of an input
SEED = 20260102


def instrumented(*packages: str) -> contextlib.AbstractContextManager[Any]:
    """For the imports of what is to be covered."""
    return atheris.instrument_imports(include=list(packages)) if atheris else contextlib.nullcontext()


def fuzz(
    one_input: Callable[[bytes], None],
    corpus: Sequence[bytes],
    folder: Path,
    words: Sequence[bytes] = (),
) -> None:
    """Tries inputs until the options' end; what `one_input` raises is a finding and ends the process with an
    error, the input kept. `folder` is for the start corpus; `words` are put into inputs more often."""
    options = dict(word.lstrip("-").split("=", 1) for word in sys.argv[1:] if "=" in word)
    if atheris is None:
        print("without atheris: seeded mutation, no coverage", flush=True)
        _mutate(one_input, corpus, words, options)
        return
    start, dictionary = folder / "corpus", folder / "words.txt"
    start.mkdir()
    for number, data in enumerate(corpus):
        (start / str(number)).write_bytes(data)
    limits = [f"-timeout={HANG_SECONDS}", f"-max_len={LONGEST}", f"-rss_limit_mb={MOST_MEMORY_MB}"]
    if words:
        dictionary.write_text("".join(f'"{_escaped(word)}"\n' for word in words))
        limits.append(f"-dict={dictionary}")
    atheris.Setup([*sys.argv, *limits, str(start)], one_input)
    atheris.Fuzz()


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


def _mutate(
    one_input: Callable[[bytes], None],
    corpus: Sequence[bytes],
    words: Sequence[bytes],
    options: dict[str, str],
) -> None:
    """Without atheris: the same inputs in every run."""
    chance = random.Random(SEED)
    most = MOST_MEMORY_MB << 20
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    runs, seconds = int(options.get("runs", -1)), float(options.get("max_total_time", 60))
    begun, tried = time.monotonic(), 0
    while tried != runs and time.monotonic() - begun < seconds:
        data = mutated(chance, chance.choice(corpus), words)
        signal.alarm(HANG_SECONDS)
        try:
            one_input(data)
        except BaseException:
            kept = Path(f"{options.get('artifact_prefix', '')}crash-{tried}")
            kept.write_bytes(data)
            print(f"finding: {kept}", file=sys.stderr)
            raise
        finally:
            signal.alarm(0)
        tried += 1
    print(f"Done {tried} runs in {time.monotonic() - begun:.0f} second(s)")


def mutated(chance: random.Random, data: bytes, words: Sequence[bytes]) -> bytes:
    """A few bytes changed, cut out, doubled or put in."""
    out = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        at, length = chance.randint(0, len(out)), chance.randint(1, 24)
        match chance.randrange(4):
            case 0:
                out[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del out[at : at + length]
            case 2:
                out[at:at] = out[chance.randint(0, len(out)) :][:length]
            case 3:
                out[at:at] = chance.choice(words) if words else bytes([chance.randrange(256)])
    return bytes(out[:LONGEST])
