"""Runs the corpus on every host and writes what came of it as a table, by class and host:

    python -m attacks.table                              prints it
    python -m attacks.table --write docs/security.md     also puts it between the page's two markers

Needs `make wheel`. The exit code is 1 when a host gives another answer than the verdict, takes more
than MOST_SECONDS for one case, or more memory than MOST_MEMORY."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from attacks.corpus import corpus, write_corpus
from attacks.hosts import FOLDER, HOSTS, Answer, wrong

MOST_SECONDS = {"template": 15.0, "download": 15.0}  # counted in steps; by the clock, with pauses
USUAL_SECONDS = 1.0
OF_FILES = {"parse", "verify", "model", "tokenizer", "open", "shards", "named", "safetensors", "onnx"}
MOST_MEMORY = 64 << 20  # bytes more than before, for the whole corpus
BEGIN, END = "<!-- attacks: begin -->", "<!-- attacks: end -->"
CLASSES = {
    1: "truncation", 2: "header", 3: "counts", 4: "strings", 5: "keys", 6: "values", 7: "alignment",
    8: "tensor names", 9: "dimensions", 10: "types and layout", 11: "row sizes", 12: "offsets", 13: "totals",
    14: "hyper-parameters", 15: "vocabulary and merges", 16: "chat templates", 17: "shards",
    18: "3, 9, 12, 13 at 2^31 and 2^32", 19: "weights and digests", 20: "downloads",
    21: "safetensors and ONNX files", 0: "unusual but right: accepted",
}  # fmt: skip


def problems(answers: dict[str, Answer]) -> list[str]:
    """Everything that is not as it must be, with the host."""
    found = []
    for host, answer in answers.items():
        found += [f"{host}: {text}" for result in answer["results"] if (text := wrong(result, host))]
        slow = [r for r in answer["results"] if r["seconds"] >= MOST_SECONDS.get(r["stage"], USUAL_SECONDS)]
        found += [f"{host}: {r['file']} took {r['seconds']:.2f} s" for r in slow]
        if answer["memoryBytes"] > MOST_MEMORY:
            found.append(f"{host}: {answer['memoryBytes']} bytes of memory")
        for opened in answer.get("opened", []):
            refused = opened["found"] in (opened["code"], "RQ_E_MAGIC", "RQ_E_TRUNCATED")
            if not refused:
                found.append(f"{host}: Model.open of {opened['file']}: {opened['found']}")
        if answer.get("workers"):
            found.append(f"{host}: {answer['workers']} workers are left")
    return found


def table(answers: dict[str, Answer]) -> str:
    """Markdown: a row a class, a column a host, "right answers / files"."""
    lines = [f"| class | what | {' | '.join(answers)} |", "| ---" * (2 + len(answers)) + " |"]
    for number in sorted(CLASSES, key=lambda n: n or 99):
        cells = []
        for host, answer in answers.items():
            of_class = [r for r in answer["results"] if r["attack"] == number]
            right = sum(not wrong(r, host) for r in of_class)
            cells.append(f"{right} / {len(of_class)}" if of_class else "-")
        lines.append(f"| {number or '-'} | {CLASSES[number]} | {' | '.join(cells)} |")
    for what, stages in {"file": OF_FILES, "template": {"template"}, "download": {"download"}}.items():
        times = [[r["seconds"] for r in a["results"] if r["stage"] in stages] for a in answers.values()]
        cells = [f"{max(seconds) * 1000:.0f} ms" if seconds else "-" for seconds in times]
        lines.append(f"| | slowest {what} | {' | '.join(cells)} |")
    memory = [f"{a['memoryBytes'] / 1e6:.1f} MB" for a in answers.values()]
    lines.append(f"| | memory for all of them | {' | '.join(memory)} |")
    return "\n".join(lines)


def put_between_markers(page: Path, text: str) -> None:
    """Replaces what stands between BEGIN and END. SystemExit when the page lacks them."""
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{page} lacks the markers {BEGIN} and {END}")
    part = page.with_name(page.name + ".part")
    part.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")
    part.replace(page)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", type=Path, help="the page to put the table into")
    args = parser.parse_args()
    write_corpus(FOLDER, corpus())
    answers = {name: host() for name, host in HOSTS.items()}
    text = table(answers)
    print(text)
    if args.write:
        put_between_markers(args.write, text)
    found = problems(answers)
    print("\n".join(found), file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
