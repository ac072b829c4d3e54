"""What the converter checks about a tokenizer and its chat templates, and records in the file."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..chat import ChatTemplate
from ..chat.prompt import special_texts, test_render
from ..chat.template import DEFAULT, KEY, template_names
from ..errors import StorageError, TemplateError, TokenizerError
from ..gguf import GGUFFile
from ..gguf.writer import write_gguf
from ..runtime import tokenizer_check
from ..runtime.tokenizer import Tokenizer

if TYPE_CHECKING:
    from ..sources import Source

NO_TEMPLATE = "none"


def checked_vocabulary(source: Source, keys: Mapping[str, Any], chat_template: str | None) -> dict[str, Any]:
    """All tokenizer keys of the new file, from the source's `keys`.

    The vocabulary is opened as the engine will open it; its fingerprint and test strings are recorded, after
    the strings were compared with the `tokenizers` package where that is installed and can read the source.
    The chat template is rendered once, its variants are compiled. `chat_template`: a file to take it from, or
    "none". Raises TokenizerError, TemplateError, StorageError.
    """
    out = _with_template(keys, chat_template)
    with tempfile.TemporaryDirectory(prefix="ruvq-") as folder:
        path = Path(folder) / "vocabulary.gguf"
        write_gguf(path, source.architecture, out, [])
        with GGUFFile.open(path) as file:
            tokenizer = Tokenizer.from_gguf(file)
            recorded = tokenizer_check.record(file, tokenizer)
            for name in template_names(file.metadata):
                _render(file.metadata, name, tokenizer)
    _compare(tokenizer, getattr(source.tokenizer, "path", None))
    return {**out, **recorded}


def _with_template(keys: Mapping[str, Any], chat_template: str | None) -> dict[str, Any]:
    out = {k: v for k, v in keys.items() if not k.startswith("ruvq.tokenizer.")}
    if chat_template is None:
        return out
    out = {k: v for k, v in out.items() if not k.startswith(KEY)}
    if chat_template != NO_TEMPLATE:
        try:
            out[KEY] = Path(chat_template).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise StorageError(
                "the chat template can't be read",
                subject=chat_template,
                expected="a UTF-8 file with a Jinja template",
                actual=str(error),
                hint="check the path",
            ) from error
    return out


def _render(metadata: Mapping[str, Any], name: str, tokenizer: Tokenizer) -> None:
    try:
        template = ChatTemplate.choose(metadata, name, special=special_texts(tokenizer))
        if name == DEFAULT:  # variants may want tools or documents
            test_render(template)
    except TemplateError as error:
        raise TemplateError(
            "the model's chat template can't be used: " + error.message,
            subject=f"{KEY} {name}",
            expected=error.expected,
            actual=error.actual,
            hint="give another with --chat-template FILE, or leave it out with --chat-template none",
        ) from error


def _compare(tokenizer: Tokenizer, path: Path | None) -> None:
    """Compares with Hugging Face's tokenizers, where there is a tokenizer.json and the package."""
    if path is None or path.name != "tokenizer.json":
        return
    try:
        import tokenizers
    except ImportError:
        return
    try:
        theirs = tokenizers.Tokenizer.from_file(str(path))
    except Exception:  # the package refuses files that ruvq reads; then there is nothing to compare with
        return
    for text in tokenizer_check.TEXTS:
        expected, found = theirs.encode(text, add_special_tokens=False).ids, tokenizer.encode(text)
        if expected != found:
            raise TokenizerError(
                "ruvq and the tokenizers package cut a text differently",
                subject=f"{path}: {text[:40]!r}",
                expected=str(expected)[:200],
                actual=str(found)[:200],
                hint="please report this model: ruvq's rules for its tokenizer are wrong",
            )
