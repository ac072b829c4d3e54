"""One attack: a file, or what stands for one, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass

SOURCES = ("safetensors", "onnx")


@dataclass(frozen=True)
class Case:
    """One file and what must happen: an error code with `says` in its text, or None for acceptance.

    `stage` is where the answer is given, after all stages before it: "parse" (rq_gguf_parse), "verify"
    (rq_gguf_check_header and rq_gguf_check_step), "tokenizer" (rq_tokenizer_open), "model"
    (rq_model_measure) or "open" (Model.open with verify, as a user calls it); one of SOURCES for
    a file of that kind, which only quantizing reads: its errors have no code of the core, `code` is ""."""

    name: str
    attack: int  # class number of docs/security.md, 0 for none
    data: bytes
    code: str | None
    says: str = ""
    stage: str = "parse"
