"""Chat templates in Pyodide's own thread, where Jinja2 isn't installed: rendered by the template.js of the
wheel.

It is a JavaScript module, so it has to be loaded by asynchronous code, once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from . import scripts
from .worker_model import _IMPORT, _PUBLISH, translated

_module: Any = None


async def load() -> None:
    """Loads the module, once."""
    global _module
    if _module is None:
        from pyodide.code import run_js

        publish = run_js(_PUBLISH)
        urls = scripts.link(
            ["template.js"],
            lambda name: (scripts.folder() / name).read_text(),
            lambda text: publish(text, "text/javascript"),
        )
        _module = await run_js(_IMPORT)(urls["template.js"])


def loaded() -> bool:
    """Whether `render` can be called."""
    return _module is not None


def render(source: str, variables: Mapping[str, Any]) -> str:
    """The text of a template, as ruvq.chat.sandbox renders it. Raises TemplateError."""
    import js

    try:
        return str(_module.renderTemplate(source, js.JSON.parse(json.dumps(dict(variables)))))
    except Exception as error:
        raise translated(error) from None
