"""Hugging Face's tokenizer.json, and GPT-2's encoder.json with vocab.bpe, as GGUF vocabularies.

Byte-level BPE becomes "gpt2"; BPE with byte fallback (as of Llama 2) becomes "llama" with scores from the
ranks of the merges. What a tokenizer does is recognised by its structure, and refused where it is not known.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import FileFormatError, StorageError, TokenizerError
from .tokenizers import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    TokenizerSpec,
    chat_template_of,
    special_ids,
)

_SPACE_MARK = "\u2581"
_BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>\Z")
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPLITS = {_WORDS % "{1,3}": "llama-bpe", _WORDS % "": "qwen2"}
_MAX_HOLES = 4096  # ids between 0 and the largest that no token has


def from_tokenizer_json(
    content: dict[str, Any], subject: str, settings: dict[str, Any], config: dict[str, Any]
) -> TokenizerSpec:
    """A parsed tokenizer.json. Raises TokenizerError for what can't be represented exactly."""
    model = content["model"]
    _check_model(model, subject)
    vocab: dict[str, int] = model["vocab"]
    added = [a for a in content.get("added_tokens") or [] if isinstance(a, dict)]
    tokens, types = _tokens(vocab, added, model.get("unk_token"), bool(model.get("byte_fallback")), subject)
    merges = [_merge(m, subject) for m in model["merges"]]
    ids = {t: i for i, t in enumerate(tokens)}
    named = special_ids(ids, settings, config)
    if named["unknown"] is None and isinstance(model.get("unk_token"), str):
        named["unknown"] = vocab.get(model["unk_token"])
    add_bos, add_eos = _post_processor(content.get("post_processor"), settings, named, tokens, subject)
    common: dict[str, Any] = {
        **named,
        "tokens": tokens,
        "types": types,
        "add_bos": add_bos,
        "add_eos": add_eos,
        "chat_template": chat_template_of(settings),
    }
    if model.get("byte_fallback"):
        return TokenizerSpec(
            model="llama",
            pre="default",
            scores=_scores(tokens, types, merges, subject),
            add_space_prefix=_space_prefix(content, subject),
            **common,
        )
    pre = _recognise(content.get("pre_tokenizer"), subject)
    if bool(model.get("ignore_merges")) != (pre == "llama-bpe"):
        raise _unknown("ignore_merges", pre == "llama-bpe", model.get("ignore_merges"), subject)
    notes: tuple[str, ...] = ()
    normalizer = content.get("normalizer")
    if normalizer is not None:
        if normalizer.get("type") != "NFC":
            raise _unknown("normalizer", "none or NFC", normalizer, subject)
        notes = ("the tokenizer's normalisation is not applied: write text in NFC",)
    return TokenizerSpec(
        model="gpt2", pre=pre, merges=[f"{a} {b}".encode() for a, b in merges], notes=notes, **common
    )


def from_gpt2_files(
    vocab: Mapping[str, Any], path: Path, settings: dict[str, Any], config: dict[str, Any]
) -> TokenizerSpec:
    """GPT-2's encoder.json (or vocab.json) with vocab.bpe (or merges.txt) beside it."""
    names = ("vocab.bpe", "merges.txt")
    beside = next((path.parent / n for n in names if (path.parent / n).is_file()), None)
    if not vocab or not all(type(i) is int for i in vocab.values()):
        raise TokenizerError(
            "not a tokenizer that can be read",
            subject=str(path),
            expected='a tokenizer.json with "model", or a vocabulary of texts and ids',
            actual=", ".join(list(vocab)[:5]) or "an empty object",
        )
    if beside is None:
        raise StorageError(
            "the vocabulary's merges are missing",
            subject=str(path),
            expected=" or ".join(names) + " beside it",
        )
    lines = beside.read_text(encoding="utf-8").split("\n")
    merges = [line.split(" ") for line in lines if line and not line.startswith("#version")]
    special = [{"id": i, "content": t, "special": True} for t, i in vocab.items() if t == "<|endoftext|>"]
    content = {
        "model": {"type": "BPE", "vocab": dict(vocab), "merges": merges},
        "added_tokens": special,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
    }
    end = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"} if special else {}
    return from_tokenizer_json(content, str(path), {**end, **settings}, config)


# ---- the model ----


def _unknown(what: str, expected: Any, actual: Any, subject: str) -> TokenizerError:
    return TokenizerError(
        f"the tokenizer's {what} is not supported",
        subject=subject,
        expected=str(expected),
        actual=json.dumps(actual, ensure_ascii=False)[:400],
        hint="text would be cut differently than the model was trained with",
    )


def _check_model(model: dict[str, Any], subject: str) -> None:
    if model.get("type", "BPE") != "BPE":
        raise _unknown("model", "BPE", model.get("type"), subject)
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            raise _unknown(name, "none", model[name], subject)
    vocab, merges = model.get("vocab"), model.get("merges")
    if not isinstance(vocab, dict) or not vocab or not isinstance(merges, list):
        raise FileFormatError(
            "the tokenizer has no vocabulary",
            subject=subject,
            expected='"vocab" with texts and ids, "merges" with pairs',
            actual=f"{type(vocab).__name__} and {type(merges).__name__}",
        )


def _tokens(
    vocab: dict[str, int], added: list[dict[str, Any]], unknown: Any, byte_fallback: bool, subject: str
) -> tuple[list[bytes], list[int]]:
    """Texts and types by id; ids that nothing has become unused tokens."""
    by_id: dict[int, tuple[str, int]] = {}
    for text, token in vocab.items():
        kind = BYTE if byte_fallback and _BYTE_TOKEN.match(text) else UNKNOWN if text == unknown else NORMAL
        _place(by_id, token, text, kind, subject)
    for entry in added:
        text, kind = str(entry.get("content")), CONTROL if entry.get("special") else USER_DEFINED
        _place(by_id, entry.get("id"), text, UNKNOWN if text == unknown else kind, subject)
    size = max(by_id) + 1
    if size > len(by_id) + _MAX_HOLES:
        raise TokenizerError(
            "the vocabulary has too many holes",
            subject=subject,
            expected=f"about {len(by_id)} ids in a row",
            actual=f"ids up to {size - 1}",
        )
    entries = [by_id.get(i, (f"[PAD{i}]", UNUSED)) for i in range(size)]
    return [text.encode() for text, _ in entries], [kind for _, kind in entries]


def _place(by_id: dict[int, tuple[str, int]], token: Any, text: str, kind: int, subject: str) -> None:
    before = by_id.get(token) if type(token) is int and token >= 0 else ("a number from 0 on", -1)
    if before is not None and before[0] != text:
        raise TokenizerError(
            "two tokens share an id, or an id is none",
            subject=f"{subject}, token {token!r}",
            expected=before[0],
            actual=text,
        )
    by_id[token] = (text, kind)


def _merge(merge: Any, subject: str) -> tuple[str, str]:
    """A merge in either form: "left right" or ["left", "right"]."""
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(p, str) and p for p in parts):
        raise FileFormatError(
            "a merge is not a pair of tokens",
            subject=subject,
            expected='"left right"',
            actual=json.dumps(merge, ensure_ascii=False)[:100],
        )
    return parts[0], parts[1]


def _scores(
    tokens: list[bytes], types: list[int], merges: list[tuple[str, str]], subject: str
) -> list[float]:
    """Scores that make SentencePiece's rule (best token first) do what the ranks of the pairs say.

    A token's score is minus the rank of its first merge; tokens whose merges lie mingled had one score in
    the SentencePiece model that the merges were made from, and get one. It needs every pair of tokens that
    makes a token to be a merge, as it is where merges were made so; anything else is refused.
    """
    ranks: dict[bytes, list[int]] = {}  # first and last rank of the merges that make a token
    for rank, (left, right) in enumerate(merges):
        text = (left + right).encode()
        ranks.setdefault(text, [rank, rank])[1] = rank
    texts = {t for t, kind in zip(tokens, types, strict=True) if kind == NORMAL}
    pairs = {(left.encode(), right.encode()) for left, right in merges}
    for text in texts:
        characters = text.decode()
        for cut in range(1, len(characters)):
            pair = (characters[:cut].encode(), characters[cut:].encode())
            if pair[0] in texts and pair[1] in texts and pair not in pairs:
                raise _unknown("set of merges", "every pair that makes a token", characters, subject)
    scores: dict[bytes, float] = {}
    start, end = 0, -1
    for text, (first, last) in ranks.items():  # in the order of their first merge
        start = first if first > end else start
        end = max(end, last)
        scores[text] = -float(start)
    return [scores.get(t, -float(len(merges))) for t in tokens]


# ---- what is around the model ----


def _recognise(pre: Any, subject: str) -> str:
    """The pre-tokenizer's GGUF name, by its structure."""
    known = "ByteLevel, Digits and ByteLevel, or the Split of Llama 3 or Qwen 2 and ByteLevel"
    parts = pre.get("pretokenizers") if isinstance(pre, dict) and pre.get("type") == "Sequence" else [pre]
    if not parts or not all(isinstance(p, dict) for p in parts) or parts[-1].get("type") != "ByteLevel":
        raise _unknown("pre-tokenizer", known, pre, subject)
    *before, last = parts
    own_words = last.get("use_regex", True)
    if last.get("add_prefix_space"):
        raise _unknown("pre-tokenizer", "ByteLevel without add_prefix_space", pre, subject)
    if not before and own_words:
        return "gpt-2"
    first = before[0] if len(before) == 1 else {}
    if own_words and first.get("type") == "Digits" and first.get("individual_digits"):
        return "smollm"
    if not own_words and first.get("type") == "Split":
        name = _SPLITS.get(str((first.get("pattern") or {}).get("Regex")))
        if name and first.get("behavior") == "Isolated" and not first.get("invert"):
            return name
    raise _unknown("pre-tokenizer", known, pre, subject)


def _space_prefix(content: dict[str, Any], subject: str) -> bool:
    """Whether text gets a space in front, of a tokenizer that writes spaces as U+2581."""
    normalizer, pre = content.get("normalizer"), content.get("pre_tokenizer")
    if pre is None and isinstance(normalizer, dict):
        steps = normalizer.get("normalizers") if normalizer.get("type") == "Sequence" else [normalizer]
        replace = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE_MARK}
        if steps == [{"type": "Prepend", "prepend": _SPACE_MARK}, replace]:
            return True
        if steps == [replace]:
            return False
    if normalizer is None and isinstance(pre, dict) and pre.get("type") == "Metaspace":
        scheme = pre.get("prepend_scheme", "always" if pre.get("add_prefix_space", True) else "never")
        if pre.get("replacement") == _SPACE_MARK and pre.get("split") is False:
            return scheme != "never"
    expected = "spaces written as U+2581, with or without one in front"
    raise _unknown("treatment of spaces", expected, {"normalizer": normalizer, "pre_tokenizer": pre}, subject)


def _post_processor(
    post: Any, settings: dict[str, Any], named: dict[str, int | None], tokens: list[bytes], subject: str
) -> tuple[bool, bool]:
    """Whether BOS and EOS are added: by the template where there is one, else by tokenizer_config.json."""
    steps = (
        post.get("processors", []) if isinstance(post, dict) and post.get("type") == "Sequence" else [post]
    )
    template = next((s for s in steps if isinstance(s, dict) and s.get("type") == "TemplateProcessing"), None)
    if template is None:
        add = [bool(settings.get(f"add_{n}_token")) and named[n] is not None for n in ("bos", "eos")]
        return add[0], add[1]
    single = template.get("single") or []
    place = next((i for i, part in enumerate(single) if "Sequence" in part), -1)
    sides = {"bos": single[: max(place, 0)], "eos": single[place + 1 :]}
    out = []
    for name, parts in sides.items():
        wanted = [p.get("SpecialToken", {}).get("id") for p in parts]
        token = named[name]
        if place < 0 or (wanted and (token is None or wanted != [tokens[token].decode()])):
            raise _unknown("post-processor", f"the {name} token or nothing added", single, subject)
        out.append(bool(wanted))
    return out[0], out[1]
