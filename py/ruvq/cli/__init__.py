"""The command line: `ruvq COMMAND`. One module a command, loaded when it is the one asked for."""

from .main import main

__all__ = ["main"]
