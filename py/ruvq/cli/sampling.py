"""The flags of the commands that write text: how a token is drawn, and where the text ends."""

from __future__ import annotations

import argparse
from typing import Any

from .console import SEED, number, whole


def add_sampling_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    group = parser.add_argument_group("sampling")
    group.add_argument(
        "--temperature", type=number(0, 100), default=0.8, help="0 takes the likeliest (default 0.8)"
    )
    group.add_argument(
        "--top-p", type=number(0, 1), default=0.95, help="nucleus sampling; 1: off (default 0.95)"
    )
    group.add_argument("--min-p", type=number(0, 1), default=0.0, help="least share of the likeliest; 0: off")
    group.add_argument("--top-k", type=whole(0), default=0, help="likeliest tokens to draw from; 0: all")
    group.add_argument(
        "--seed", type=SEED, help="the same seed gives the same text on every host (default: random)"
    )
    group.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="end before this text; repeatable"
    )


def sampling_options(args: argparse.Namespace) -> dict[str, Any]:
    """The flags as options of `Model.generate`."""
    names = ("temperature", "top_p", "min_p", "top_k", "seed", "stop")
    return {name: getattr(args, name) for name in names}
