"""Calibration: the float model run on the user's text, and what its matrices are multiplied with."""

from .run import CalibrationReport, calibrate

__all__ = ["CalibrationReport", "calibrate"]
