"""What is refused before any work: options without meaning, outputs that can't be, disks too full."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from .. import core, formats
from ..errors import StorageError, UsageError
from .plan import TRELLIS, Plan
from .rows import EncodeOptions
from .tensors import DEFAULT_K, SCALE_RULES

HEADER_RESERVE = 1 << 20  # bytes beside tensor data and vocabulary that the space check allows for
THOROUGH_EFFORT = 8  # of the trellis encoders, from which on they try headers thoroughly

TAKES_K = (*DEFAULT_K, *TRELLIS)  # for the trellis: k of every group, instead of the best for each


def encode_options(k: int | None, scale: str | None, thorough: bool) -> EncodeOptions:
    """The encoders' options as the caller named them. UsageError for what isn't there."""
    if k is not None and k not in (2, 3, 4, 5):
        raise UsageError("k is the divisor of pi", subject="k", expected="2, 3, 4 or 5", actual=str(k))
    if scale is not None and scale not in SCALE_RULES:
        raise UsageError("unknown scale rule", subject="scale", expected=", ".join(SCALE_RULES), actual=scale)
    return EncodeOptions(k or 0, scale or "default", THOROUGH_EFFORT if thorough else 0)


def check_desktop(rotate: str, calibration: object) -> None:
    """What only the desktop's package has, and can't be combined."""
    if rotate != "none" and calibration is not None:
        raise UsageError(
            "calibration saw the inputs of the model as it was, not of the rotated one",
            subject="rotate",
            expected="--rotate or --calibration",
            actual="both",
            hint="write the rotated model in f32, calibrate that, and quantize it without --rotate",
        )
    if (rotate != "none" or calibration is not None) and core.get().host != "native":
        raise UsageError(
            "rotation and calibration are the desktop's",
            subject="rotate" if calibration is None else "calibration",
            expected="neither in a browser",
            actual="one of them",
            hint="quantize with `ruvq quantize` on the desktop",
        )


def check_options(plan: Plan, options: EncodeOptions) -> None:
    """An option that no tensor of the plan takes is a mistake to be told of."""
    used = {t.format for t in plan.tensors if t.is_matrix}
    if options.k and not any(options_for(name, options).k for name in used):
        raise UsageError(
            "k has no meaning for this format", subject="k", expected=", ".join(TAKES_K), actual=plan.format
        )
    if options.scale != "default" and not any(formats.get(name).own for name in used):
        raise UsageError(
            "a scale rule has no meaning for this format",
            subject="scale",
            expected="one of ruvq's own formats",
            actual=plan.format,
        )


def options_for(format: str, options: EncodeOptions) -> EncodeOptions:
    """The part of the options that a format takes."""
    own = format in TAKES_K or formats.get(format).own
    effort = options.effort if format in TRELLIS else 0
    return EncodeOptions(options.k if format in TAKES_K else 0, options.scale if own else "default", effort)


def check_absent(target: Path, what: str, overwrite: bool) -> None:
    """StorageError where there is a file already that must stay."""
    if target.exists() and not overwrite:
        raise StorageError(
            f"the {what} exists already",
            subject=str(target),
            expected="a new file name",
            actual=f"a file of {target.stat().st_size:,} bytes",
            hint="choose another --output, or replace it with --force",
        )


def check_target(target: Path, input: Path, overwrite: bool) -> None:
    """Refuses what can't become the output, before any work."""
    if target.is_dir():
        raise StorageError(
            "the output is a folder", subject=str(target), expected="a file name", actual="a folder"
        )
    if not target.parent.is_dir():
        raise StorageError(
            "the output's folder doesn't exist",
            subject=str(target),
            expected=f"an existing folder {target.parent}",
            actual="none",
            hint="make it first",
        )
    if target.exists() and input.exists() and target.samefile(input):
        raise UsageError(
            "input and output are the same file", subject=str(target), hint="choose another --output"
        )
    check_absent(target, "output", overwrite)
    if not os.access(target.parent, os.W_OK):
        raise StorageError(
            "the output's folder can't be written", subject=str(target.parent), hint="check its permissions"
        )


def check_space(target: Path, plan: Plan) -> None:
    """StorageError where the file won't fit the disk."""
    needed = plan.nbytes + 64 * len(plan.tensors) + HEADER_RESERVE
    free = shutil.disk_usage(target.parent).free
    if needed > free:
        error = StorageError(
            "not enough space on the disk",
            subject=str(target.parent),
            expected=f"{needed:,} bytes free",
            actual=f"{free:,} bytes",
            hint="free some space, write elsewhere, or choose a format of fewer bits",
        )
        error.errno = errno.ENOSPC
        raise error
