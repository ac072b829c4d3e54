"""Hatch metadata hook: the long description is README.md, one sentence in wheels that pages download."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

FOR_PAGES = ("pure", "pyodide")  # kinds of hatch_hook.py


class CustomMetadataHook(MetadataHookInterface):
    """Sets `readme`."""

    def update(self, metadata: dict[str, Any]) -> None:
        short = os.environ.get("RUVQ_WHEEL") in FOR_PAGES
        text = metadata["description"] if short else (Path(self.root) / "README.md").read_text()
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
