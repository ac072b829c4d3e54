"""Records what `transformers` renders for every template and conversation, as recorded.json.

    python tests/chat/record.py [--also FOLDER]

Needs the transformers package (not installed for the tests; 5.x and Jinja2 3.1 were used). `--also` renders
each *.jinja file of a folder with both, and lists where ruvq differs, without recording: for real models'
templates.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
SMOLLM2 = Path("tok_smollm2_135m") / "chat_template.jinja"  # in RUVQ_DATA
DATE = {"date_string": "07 Mar 2025"}  # for templates that would ask for today


def templates() -> dict[str, Path]:
    """Name → file: those beside this script, and SmolLM2's own."""
    found = {path.stem: path for path in sorted((HERE / "templates").glob("*.jinja"))}
    data = Path(os.environ.get("RUVQ_DATA", HERE.parents[2] / "shared" / "data"))
    return {**found, "smollm2": data / SMOLLM2}


def conversations() -> dict[str, dict[str, Any]]:
    """Name → what apply_chat_template is given."""
    return json.loads((HERE / "conversations.json").read_text(encoding="utf-8"))


def arguments(conversation: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments of a rendering."""
    given = {"add_generation_prompt": True, "tools": None, **DATE, **conversation}
    del given["messages"]
    return given


def transformers_text(source: str, conversation: dict[str, Any]) -> str:
    """The text, or "error: ..." where transformers raises."""
    from transformers.utils.chat_template_utils import render_jinja_template

    options = arguments(conversation)
    try:
        rendered, _ = render_jinja_template(
            conversations=[conversation["messages"]],
            chat_template=source,
            documents=None,
            **options,
            **SPECIAL,
        )
    except Exception as error:
        return f"error: {error}"
    return rendered[0]


def ruvq_text(source: str, conversation: dict[str, Any]) -> str:
    """The same by ruvq."""
    from ruvq.chat import ChatTemplate
    from ruvq.errors import TemplateError

    try:
        return ChatTemplate(source, SPECIAL).render(conversation["messages"], **arguments(conversation))
    except TemplateError as error:
        return f"error: {error.actual}"


def javascript_texts(cases: list[tuple[str, dict[str, Any]]]) -> list[str]:
    """The same by ruvq.js, in Node."""
    renderings = [
        {
            "source": source,
            "variables": {**SPECIAL, "documents": None, **arguments(c), "messages": c["messages"]},
        }
        for source, c in cases
    ]
    done = subprocess.run(
        ["node", str(HERE / "node_chat.mjs")],
        input=json.dumps({"renderings": renderings}),
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)["renderings"]
    return [answer.get("text", f"error: {answer.get('message')}") for answer in found]


def compare(folder: Path) -> int:
    """Prints where ruvq and transformers differ; how often."""
    named = [
        (f"{path.name}, {name}", path.read_text(encoding="utf-8"), conversation)
        for path in sorted(folder.glob("**/*.jinja"))
        for name, conversation in conversations().items()
    ]
    cases = [(source, conversation) for _, source, conversation in named]
    ours = {"Python": [ruvq_text(*case) for case in cases], "JavaScript": javascript_texts(cases)}
    theirs = [transformers_text(*case) for case in cases]
    different = dict.fromkeys(ours, 0)
    for host, texts in ours.items():
        for (name, _, _), text, expected in zip(named, texts, theirs, strict=True):
            if text != expected and not (text.startswith("error: ") and expected.startswith("error: ")):
                different[host] += 1
                print(f"{host}, {name}:\n  transformers {expected!r}\n  ruvq         {text!r}")
    print(f"{len(named)} conversations rendered; different: {different}")
    return sum(different.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--also", type=Path, help="a folder of templates to compare instead of recording")
    args = parser.parse_args()
    if args.also:
        return int(compare(args.also) > 0)
    recorded = {
        template: {
            name: transformers_text(path.read_text(encoding="utf-8"), conversation)
            for name, conversation in conversations().items()
        }
        for template, path in templates().items()
    }
    text = json.dumps(recorded, ensure_ascii=False, indent=1)
    (HERE / "recorded.json").write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
