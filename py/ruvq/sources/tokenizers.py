"""A source model's tokenizer as GGUF metadata: which kind of file it is, and what every kind becomes.

`load_tokenizer` opens tokenizer.json, tokenizer.model, llama2.c's tok*.bin, GPT-2's pair of files, or a
folder with one of them. No dependencies: each has a small reader of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import StorageError, TokenizerError
from ..gguf.values import Typed
from .files import read_json

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # tokenizer.ggml.token_type

# A vocabulary may be this much smaller than the model's embedding, which is often rounded up.
_PADDING_LEAST, _PADDING_SHARE = 64, 32
_CONFIG_FILE, _TEMPLATE_FILE = "tokenizer_config.json", "chat_template.jinja"
_FOLDER_ORDER = ("tokenizer.json", "tokenizer.model", "tok*.bin", "encoder.json", "vocab.json")


@dataclass(frozen=True)
class TokenizerSpec:
    """A vocabulary and its rules, checked on construction.

    `model`: "llama" (SentencePiece) or "gpt2" (byte-level BPE); `pre`: the pre-tokenizer's name;
    `tokens`: UTF-8 texts by id; `scores` (SentencePiece) and `types` one for each; `merges` (BPE) as
    "left right"; ids are None where there is none; `notes`: what a user should know.
    """

    model: str
    pre: str
    tokens: Sequence[bytes]
    types: Sequence[int]
    scores: Sequence[float] | None = None
    merges: Sequence[bytes] | None = None
    bos: int | None = None
    eos: int | None = None
    eot: int | None = None
    unknown: int | None = None
    padding: int | None = None
    add_bos: bool = False
    add_eos: bool = False
    add_space_prefix: bool = False
    chat_template: str | None = None
    chat_templates: Mapping[str, str] = field(default_factory=dict)  # named variants
    path: Path | None = None  # of the file it was read from
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        count = len(self.tokens)
        for name, values in (("types", self.types), ("scores", self.scores)):
            if values is not None and len(values) != count:
                raise TokenizerError(
                    f"the vocabulary's {name} don't match its tokens",
                    expected=str(count),
                    actual=str(len(values)),
                )
        for name in ("bos", "eos", "eot", "unknown", "padding"):
            token = getattr(self, name)
            if token is not None and not 0 <= token < count:
                raise TokenizerError(
                    f"the id of the {name} token is outside the vocabulary",
                    expected=f"0 to {count - 1}",
                    actual=str(token),
                    hint="the tokenizer's files belong to different models",
                )

    @property
    def vocab_size(self) -> int:
        """Number of tokens, padding included."""
        return len(self.tokens)

    def metadata(self) -> dict[str, Any]:
        """GGUF keys and values as `ruvq.gguf.GGUFWriter` takes them."""
        out: dict[str, Any] = {
            "tokenizer.ggml.model": self.model,
            "tokenizer.ggml.pre": self.pre,
            "tokenizer.ggml.tokens": [t.decode("utf-8") for t in self.tokens],
            "tokenizer.ggml.token_type": list(self.types),
        }
        if self.scores is not None:
            out["tokenizer.ggml.scores"] = [float(s) for s in self.scores]
        if self.merges is not None:
            out["tokenizer.ggml.merges"] = Typed([m.decode("utf-8") for m in self.merges], "string")
        for name in ("bos", "eos", "eot", "unknown", "padding"):
            if getattr(self, name) is not None:
                out[f"tokenizer.ggml.{name}_token_id"] = int(getattr(self, name))
        out["tokenizer.ggml.add_bos_token"] = self.add_bos
        out["tokenizer.ggml.add_eos_token"] = self.add_eos
        if self.model == "llama":
            out["tokenizer.ggml.add_space_prefix"] = self.add_space_prefix
        if self.chat_template:
            out["tokenizer.chat_template"] = self.chat_template
        if self.chat_templates:
            out["tokenizer.chat_templates"] = list(self.chat_templates)
            out |= {f"tokenizer.chat_template.{name}": text for name, text in self.chat_templates.items()}
        return out

    def for_model(self, vocab_size: int) -> TokenizerSpec:
        """This vocabulary for a model of `vocab_size` rows: padded with unused tokens where the model has
        somewhat more. Raises TokenizerError where the two can't belong together."""
        missing = vocab_size - self.vocab_size
        if missing == 0:
            return self
        if missing < 0 or missing > max(_PADDING_LEAST, vocab_size // _PADDING_SHARE):
            raise TokenizerError(
                "the tokenizer doesn't belong to this model",
                expected=f"about {vocab_size} tokens, as the model's embedding has rows",
                actual=f"{self.vocab_size} tokens",
                hint="give the tokenizer that the model was trained with",
            )
        names = [f"[PAD{self.vocab_size + i}]".encode() for i in range(missing)]
        return replace(
            self,
            tokens=[*self.tokens, *names],
            types=[*self.types, *([UNUSED] * missing)],
            scores=None if self.scores is None else [*self.scores, *([0.0] * missing)],
            notes=(*self.notes, f"the vocabulary is padded with {missing} unused tokens"),
        )


def load_tokenizer(
    path: Path, vocab_size: int | None = None, config: dict[str, Any] | None = None
) -> TokenizerSpec:
    """The tokenizer in a file, or in a folder that has one.

    `vocab_size`: rows of the model's embedding, checked; `config`: the model's config.json, for the ids of
    special tokens that the tokenizer's own files don't name. Raises StorageError, FileFormatError,
    TokenizerError.
    """
    file = _tokenizer_file(Path(path))
    settings = _settings(file.parent)
    spec = _read(file, settings, config or {})
    spec = replace(spec, chat_templates=_named_templates(settings, file.parent), path=file)
    return spec if vocab_size is None else spec.for_model(vocab_size)


def _tokenizer_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    for pattern in _FOLDER_ORDER:
        found = sorted(path.glob(pattern))
        if found:
            return found[0]
    raise StorageError(
        "no tokenizer in the folder",
        subject=str(path),
        expected=" or ".join(_FOLDER_ORDER),
        actual=", ".join(sorted(p.name for p in path.iterdir())[:5]) or "an empty folder",
        hint="name the tokenizer's file",
    )


def _settings(folder: Path) -> dict[str, Any]:
    """tokenizer_config.json beside the tokenizer, with the chat template of a file of its own."""
    path = folder / _CONFIG_FILE
    settings = read_json(path) if path.is_file() else {}
    template = folder / _TEMPLATE_FILE
    if template.is_file():
        settings["chat_template"] = template.read_text(encoding="utf-8")
    return settings


def _read(file: Path, settings: dict[str, Any], config: dict[str, Any]) -> TokenizerSpec:
    if file.suffix == ".model":
        from .tokenizer_sentencepiece import from_sentencepiece

        return from_sentencepiece(file, settings, config)
    if file.suffix == ".bin":
        from .tokenizer_llama2c import from_llama2c

        return from_llama2c(file)
    if file.suffix == ".json":
        from .tokenizer_json import from_gpt2_files, from_tokenizer_json

        content = read_json(file)
        if "model" in content and isinstance(content["model"], dict):
            return from_tokenizer_json(content, str(file), settings, config)
        return from_gpt2_files(content, file, settings, config)
    raise TokenizerError(
        "not a tokenizer that can be read",
        subject=str(file),
        expected="tokenizer.json, tokenizer.model, tok*.bin, or encoder.json with vocab.bpe",
        actual=file.name,
    )


def chat_template_of(settings: dict[str, Any]) -> str | None:
    """The chat template of a tokenizer_config.json; of several, the one called "default"."""
    template = settings.get("chat_template")
    if isinstance(template, list):
        named = {t.get("name"): t.get("template") for t in template if isinstance(t, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _named_templates(settings: dict[str, Any], folder: Path) -> dict[str, str]:
    """Templates beside the default one: of tokenizer_config.json, and files of their own."""
    listed = settings.get("chat_template")
    found = {
        t["name"]: t["template"]
        for t in (listed if isinstance(listed, list) else ())
        if isinstance(t, dict) and isinstance(t.get("name"), str) and isinstance(t.get("template"), str)
    }
    for path in sorted((folder / "additional_chat_templates").glob("*.jinja")):
        found[path.stem] = path.read_text(encoding="utf-8")
    return {name: text for name, text in found.items() if name != "default" and text}


def special_ids(
    ids: dict[bytes, int], settings: dict[str, Any], config: dict[str, Any]
) -> dict[str, int | None]:
    """bos, eos, unknown and padding: by name from tokenizer_config.json, else by id from config.json."""
    out: dict[str, int | None] = {}
    for name, short in (("bos", "bos"), ("eos", "eos"), ("unknown", "unk"), ("padding", "pad")):
        token = settings.get(f"{short}_token")
        if isinstance(token, dict):
            token = token.get("content")
        found = ids.get(token.encode()) if isinstance(token, str) else None
        if found is None:
            other = config.get(f"{short}_token_id")
            other = other[0] if isinstance(other, list) and other else other
            found = other if isinstance(other, int) and 0 <= other < len(ids) else None
        out[name] = found
    return out
