"""One attack: a file, several, or what stands for one, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass

HOSTS = ("native", "Node", "page", "Pyodide")


@dataclass(frozen=True)
class Case:
    """One file and what must happen: an error code with `says` in its text, or None for acceptance.

    `stage` is where the answer is given, after all stages before it: "parse" (rq_gguf_parse), "verify"
    (rq_gguf_check_header and rq_gguf_check_step), "tokenizer" (rq_tokenizer_open), "model"
    (rq_model_measure) or "open" (Model.open with verify, as a user calls it). Others stand beside them:
    "shards" (Model.open of `data` and `more`, which are in memory), "named" (the same files under `names`
    in a folder, of which the first name is opened: by path, and in a page by address), "template" (`data`
    is a chat template, rendered), "download" (`data` is a whole model, `address` and `options` are what
    Model.fetch is told; servers.py has the servers), "safetensors" and "onnx" for files of those kinds,
    which only quantizing reads.

    Errors that Python and JavaScript raise by themselves have no code of the core: `code` is "" there, and
    `error` is the class. `hosts` are those that the case concerns."""

    name: str
    attack: int  # class number of docs/security.md, 0 for none
    data: bytes
    code: str | None
    says: str = ""
    stage: str = "parse"
    error: str = ""
    more: tuple[bytes, ...] = ()
    names: tuple[str, ...] = ()
    address: str = ""
    options: tuple[tuple[str, object], ...] = ()
    tabs: int = 1  # how many fetch it at the same time
    quota: int = 0  # bytes that the browser may keep, 0 for its own limit
    hosts: tuple[str, ...] = HOSTS
