"""Does wllama's build use SIMD where it spends its time? Counts instructions of its hottest functions.

    python build/bench/simd_census.py [--shape K] [--formats Q8_0 ...] [--write docs/bench/wllama-simd.json]

Each file is run in wllama, one thread, in Chromium with V8's sampling profiler; the functions of its module
are disassembled (llvm-objdump-19) and the vector instructions of the hottest ones counted. A table goes to
standard error, JSON to standard output or to the file, from which `make bench` quotes it beside wllama's
figures.
"""

from __future__ import annotations

import argparse
import bisect
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).resolve().parent), str(ROOT / "build"), str(ROOT / "py")]

from page import browser_page, in_browser  # noqa: E402
from peers import find_peers, peer_files, wllama_letter  # noqa: E402
from random_models import SHAPES  # noqa: E402

IMPORT, CODE = 2, 10  # section ids of WebAssembly
SIMD_PREFIX = "fd"
HOTTEST = 5


def _leb(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned number and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def sections(module: bytes) -> dict[int, tuple[int, int]]:
    """Section id → (start, end) of its contents; the last one of each id."""
    found, at = {}, 8
    while at < len(module):
        kind, (size, start) = module[at], _leb(module, at + 1)
        found[kind] = (start, start + size)
        at = start + size
    return found


def imported_functions(module: bytes, at: int) -> int:
    """How many functions the import section brings: they come first in the numbering."""
    count, at = _leb(module, at)
    functions = 0
    for _ in range(count):
        for _ in range(2):  # module and field
            length, at = _leb(module, at)
            at += length
        kind, at = module[at], at + 1
        if kind == 0:
            functions += 1
            _, at = _leb(module, at)
        elif kind in (1, 2):  # a table has a type before its limits
            flags, at = _leb(module, at + (kind == 1))
            for _ in range(1 + (flags & 1)):
                _, at = _leb(module, at)
        elif kind == 3:
            at += 2
        else:
            _, at = _leb(module, at + 1)
    return functions


def function_starts(module: bytes) -> tuple[list[int], int]:
    """File offset of every function body, and the number of the first."""
    found = sections(module)
    count, at = _leb(module, found[CODE][0])
    starts = []
    for _ in range(count):
        size, at = _leb(module, at)
        starts.append(at)
        at += size
    return starts, imported_functions(module, found[IMPORT][0])


def census(path: Path) -> dict[int, tuple[int, int]]:
    """Function number → (vector instructions, instructions)."""
    starts, first = function_starts(path.read_bytes())
    command = ["llvm-objdump-19", "-d", str(path)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    totals: dict[int, list[int]] = {}
    for match in re.finditer(r"^ +([0-9a-f]+): ([0-9a-f]{2}) ", run.stdout, re.MULTILINE):
        number = first + bisect.bisect_right(starts, int(match[1], 16)) - 1
        counts = totals.setdefault(number, [0, 0])
        counts[0] += match[2] == SIMD_PREFIX
        counts[1] += 1
    return {number: (simd, total) for number, (simd, total) in totals.items()}


def samples(log: Path) -> Counter[int]:
    """Samples of the profiler by function number, in one isolate's log."""
    codes, ticks = [], []
    for line in log.read_text(errors="replace").splitlines():
        fields = line.split(",")
        if fields[0] == "code-creation" and fields[6].startswith("wasm-function["):
            codes.append((int(fields[4], 16), int(fields[5]), int(fields[6][14:].split("]")[0])))
        elif fields[0] == "tick":
            ticks.append(int(fields[1], 16))
    codes.sort()
    starts = [code[0] for code in codes]
    counted: Counter[int] = Counter()
    for tick in ticks:
        at = bisect.bisect_right(starts, tick) - 1
        if at >= 0 and tick < codes[at][0] + codes[at][1]:
            counted[codes[at][2]] += 1
    return counted


def profile(path: Path, folder: Path, tokens: tuple[int, int]) -> Counter[int]:
    """Samples of one file's run in wllama: of the isolate that has most of them."""
    with tempfile.TemporaryDirectory() as logs:
        flags = [f"--js-flags=--prof --logfile={logs}/v8-%p.log"]
        with browser_page(folder, flags) as (page, _):
            spec = {"base": "./peers/wllama", "url": f"/files/{path.name}", "letter": wllama_letter(path)}
            in_browser(page, "wllama", threads=1, promptTokens=tokens[0], decodeTokens=tokens[1], **spec)
        found = [samples(log) for log in Path(logs).glob("*.log")]
        return max(found, key=lambda counted: counted.total())


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=sorted(SHAPES), default="K", help="default K")
    parser.add_argument("--formats", nargs="+", default=["Q8_0", "Q4_K_M", "Q4_0", "Q2_K", "TQ2_0"])
    parser.add_argument("--tokens", type=int, nargs=2, default=[8, 32], metavar=("PROMPT", "DECODE"))
    parser.add_argument("--npm", type=Path, default=ROOT / "node_modules", help="where npm's peers are")
    parser.add_argument("--write", type=Path, help="a file for the JSON")
    options = parser.parse_args()
    folder = ROOT / "out" / "bench" / "files"
    folder.mkdir(parents=True, exist_ok=True)
    peers = find_peers(folder.parent, options.npm)
    if peers.wllama is None:
        raise SystemExit(peers.missing["wllama"])
    counts = census(folder.parent / "peers" / "wllama" / "wasm" / "wllama.wasm")
    report: dict[str, Any] = {
        "wllama": peers.wllama["version"],
        "functions": len(counts),
        "functions_with_vector_instructions": sum(simd > 0 for simd, _ in counts.values()),
        "formats": {},
    }
    for name, path in peer_files(folder, options.shape, tuple(options.formats), peers).items():
        taken = profile(path, folder, tuple(options.tokens))
        entries = [
            {
                "function": number,
                "share": ticks / taken.total(),
                "vector_instructions": counts[number][0],
                "instructions": counts[number][1],
            }
            for number, ticks in taken.most_common(HOTTEST)
        ]
        report["formats"][name] = entries
        print(f"{options.shape} {name}, {taken.total()} samples", file=sys.stderr)
        for e in entries:
            print(
                f"  function {e['function']:5}: {100 * e['share']:5.1f} % of the time, "
                f"{e['vector_instructions']} vector instructions of {e['instructions']}",
                file=sys.stderr,
            )
    text = json.dumps(report, indent=1)
    if options.write:
        options.write.parent.mkdir(parents=True, exist_ok=True)
        options.write.write_text(text + "\n")
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
