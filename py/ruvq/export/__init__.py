"""A model in other tools' formats: ONNX. Stays on the desktop; needs the extra `ruvq[onnx]`."""

from .onnx_model import FORMATS, ExportReport, export_onnx

__all__ = ["FORMATS", "ExportReport", "export_onnx"]
