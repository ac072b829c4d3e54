"""Where this machine's Chromium is and how to start it so that it behaves without a screen or a network."""

from __future__ import annotations

import os
import shutil

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def chromium_path() -> str:
    """The browser's executable: RUVQ_CHROMIUM, or the first of the usual names on PATH.

    Raises SystemExit that says what to install.
    """
    named = os.environ.get("RUVQ_CHROMIUM")
    found = shutil.which(named) if named else next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if found is None:
        looked = named or ", ".join(CHROMIUM_NAMES)
        raise SystemExit(
            f"no Chromium found (looked for {looked}): install Debian's package `chromium`, or name another "
            "by RUVQ_CHROMIUM"
        )
    return found
