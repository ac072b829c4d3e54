"""Calibration: the float model run on the user's text, and what its matrices are multiplied with."""

from .collect import collect

__all__ = ["collect"]
