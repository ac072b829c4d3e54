"""Runs the fuzzers of tests/fuzz: `make fuzz` builds them.

    python build/fuzz.py                      each target for FUZZ_SECONDS (60)
    python build/fuzz.py --runs 1000000       or that many executions, whichever comes first
    python build/fuzz.py --keep               then minimises the corpus into tests/fuzz/corpus.tar.xz

Targets in C, by libFuzzer under AddressSanitizer and UndefinedBehaviorSanitizer: `file` (any bytes through
parser, checks, tokenizer and model), `tokenizer` (vocabularies that parse, opened, and a text through them),
`model` (hyper-parameters, tensors and options of a small model), `shards` (files that are joined), `adapter`
(LoRA adapters of a small model). Each starts from the kept corpus; `file` also from the hostile files of
attacks/, `file` and `adapter` from right adapters. What crashes, hangs for 5 s or takes more than 512 MB is a
finding.

Targets in Python, by atheris (without it by seeded mutation): `readers` (safetensors, tokenizers and other
sources), `template` (chat templates); by seeded mutation in Node: `template-js`. Their limits are in the
files.

A finding is written to out/fuzz/found and the exit code is 1. The last line of standard output is the
result: executions, seconds and, of targets in C, files of the corpus of each."""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "out" / "fuzz"
KEPT = ROOT / "tests" / "fuzz" / "corpus.tar.xz"
# bytes of an input, by target in C
LONGEST = {"file": 4096, "tokenizer": 512, "model": 256, "shards": 512, "adapter": 1024}
SCRIPTS = {"readers": "fuzz_readers.py", "template": "fuzz_template.py", "template-js": "fuzz_template.mjs"}
TARGETS = [*LONGEST, *SCRIPTS]
# For fuzz_adapter.c: right texts; alpha 4; three matrices at ranks 4, 1 and 4 in float32; the numbers' bytes.
BUILT_ADAPTER = bytes.fromhex("00000001 0000804000000000 03 050003 070000 0b0003 0500 8201020302")
HANG_SECONDS = 5
MOST_MEMORY_MB = 512


def unpack_corpus() -> None:
    """The kept corpus into out/fuzz/corpus/TARGET, and the small files of attacks/ for `file`."""
    shutil.rmtree(OUT / "corpus", ignore_errors=True)
    for target in LONGEST:
        (OUT / "corpus" / target).mkdir(parents=True)
    if KEPT.is_file():
        with tarfile.open(KEPT) as archive:
            archive.extractall(OUT / "corpus", filter="data")
    sys.path.insert(0, str(ROOT))
    from attacks.build_gguf import GGML_F16, lora
    from attacks.corpus import gguf_cases

    adapters = {
        "lora-f32": lora(), "lora-f16": lora(kind=GGML_F16, alpha=0.0),
        "lora-two": lora({"blk.0.attn_q.weight": (16, 16, 4), "blk.0.ffn_down.weight": (24, 16, 1)}),
    }  # fmt: skip
    for name, data in adapters.items():
        (OUT / "corpus" / "file" / name).write_bytes(data)
        (OUT / "corpus" / "adapter" / name).write_bytes(data)
    (OUT / "corpus" / "adapter" / "built").write_bytes(BUILT_ADAPTER)
    for case in gguf_cases():
        if len(case.data) <= LONGEST["file"]:
            (OUT / "corpus" / "file" / case.name).write_bytes(case.data)


def program(target: str, folder: Path, *options: str) -> list[str]:
    """The command of a target in C."""
    limits = [f"-max_len={LONGEST[target]}", f"-timeout={HANG_SECONDS}", f"-rss_limit_mb={MOST_MEMORY_MB}"]
    return [str(OUT / f"fuzz_{target}"), *limits, *options, str(folder)]


def script(target: str) -> list[str]:
    """The command of a target in Python or JavaScript."""
    path = str(ROOT / "tests" / "fuzz" / SCRIPTS[target])
    return ["node", "--max-old-space-size=512", path] if path.endswith(".mjs") else [sys.executable, path]


def run(target: str, seconds: int, runs: int) -> dict[str, Any]:
    """One fuzzer's run: {"executions", "seconds", "finding"}, in C {"corpus", "coverage"} too; "finding" is
    "" if none."""
    found = OUT / "found"
    found.mkdir(exist_ok=True)
    options = [f"-max_total_time={seconds}", f"-runs={runs}", f"-artifact_prefix={found}/{target}-"]
    if target in LONGEST:
        command = program(target, OUT / "corpus" / target, *options, "-use_value_profile=1")
    else:
        command = [*script(target), *options]
    started = time.monotonic()
    log = OUT / f"{target}.log"
    with log.open("w") as file:
        code = subprocess.run(command, stdout=file, stderr=file, check=False).returncode
    text = log.read_text(errors="replace")
    executed = re.search(r"Done (\d+) runs", text)
    result = {
        "executions": int(executed[1]) if executed else 0,
        "seconds": round(time.monotonic() - started, 1),
        "finding": "" if code == 0 else f"exit code {code}: {log}, inputs in {found}",
    }
    if target in LONGEST:
        covered = re.findall(r"\bcov: (\d+)", text)
        result["corpus"] = len(list((OUT / "corpus" / target).iterdir()))
        result["coverage"] = int(covered[-1]) if covered else 0
    return result


def keep_corpus() -> None:
    """Minimises what the runs found and packs it, the same bytes for the same files."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz", preset=9) as archive:
        for target in LONGEST:
            smallest = OUT / "smallest" / target
            shutil.rmtree(smallest, ignore_errors=True)
            smallest.mkdir(parents=True)
            merge = program(target, smallest, "-merge=1")
            done = subprocess.run([*merge, str(OUT / "corpus" / target)], capture_output=True, check=False)
            if done.returncode:
                raise SystemExit(
                    f"minimising {target} failed:\n{done.stderr.decode(errors='replace')[-2000:]}"
                )
            for file in sorted(smallest.iterdir()):
                entry = tarfile.TarInfo(f"{target}/{file.name[:16]}")
                entry.size = file.stat().st_size
                archive.addfile(entry, io.BytesIO(file.read_bytes()))
    KEPT.write_bytes(packed.getvalue())


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    seconds = int(os.environ.get("FUZZ_SECONDS", "60"))
    parser.add_argument(
        "--seconds", type=int, default=seconds, help="of each target; default FUZZ_SECONDS, or 60"
    )
    parser.add_argument("--runs", type=int, default=-1, help="most executions of each target")
    parser.add_argument("--target", choices=TARGETS, action="append", help="only this one; may be repeated")
    parser.add_argument(
        "--keep", action="store_true", help="minimise the corpus into tests/fuzz/corpus.tar.xz"
    )
    args = parser.parse_args()
    unpack_corpus()
    results = {target: run(target, args.seconds, args.runs) for target in args.target or TARGETS}
    if args.keep:
        keep_corpus()
    print(json.dumps(results))
    return 1 if any(result["finding"] for result in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
