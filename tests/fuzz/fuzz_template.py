"""Fuzzing of the chat templates that Python renders; guided.py says how.

    python tests/fuzz/fuzz_template.py [-max_total_time=60] [-runs=100000]

Any text as a template: it must render a conversation within its limits, or be refused with a TemplateError
that says what was expected and found. The start corpus are the templates of the common families and those
of attacks/ that are accepted. A finding is any other exception, 10 s or 2 GB.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from guided import fuzz, instrumented

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

with instrumented("ruvq.chat", "jinja2"):
    from ruvq.chat import ChatTemplate, sandbox
    from ruvq.chat.meter import MAX_OUTPUT
    from ruvq.errors import TemplateError

from attacks.templates import ACCEPTED  # noqa: E402

WORDS = (ROOT / "tests" / "fuzz" / "template_words.txt").read_text().splitlines()
assert sandbox  # imported here, or it would be imported later and not be covered
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello <b>&amp;"},
    {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}]},
    {"role": "user", "content": "é😀"},
]
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


def one_input(data: bytes) -> None:
    """A finding is what it raises."""
    try:
        text = ChatTemplate(data.decode(errors="ignore"), SPECIAL).render(MESSAGES, tools=TOOLS)
    except TemplateError as error:
        if not (error.expected and error.actual):
            raise RuntimeError("a refusal without what was expected and found") from error
        return
    if len(text) > MAX_OUTPUT:
        raise RuntimeError("more text than the limit")


if __name__ == "__main__":
    families = sorted((ROOT / "tests" / "chat" / "templates").glob("*.jinja"))
    right = [path.read_bytes() for path in families] + [source.encode() for source in ACCEPTED.values()]
    words = [word.encode() for word in WORDS]
    fuzz(one_input, right, Path(tempfile.mkdtemp(prefix="ruvq-fuzz-")), words)
