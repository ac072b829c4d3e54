"""`ruvq export-onnx`: a model's floats, or 4 bits of them, as an ONNX decoder."""

from __future__ import annotations

import argparse
from typing import Any

from .console import Progress, note

EXAMPLES = """  ruvq export-onnx model-pi-t3.gguf model.onnx
  ruvq export-onnx model-f16.gguf model-int4.onnx --format matmulnbits --cache
  ruvq export-onnx model_dir/ model.onnx --external --force --json
  ruvq quantize --input model.onnx --format pi-t2 --output model-pi-t2.gguf"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    parser.add_argument(
        "input", metavar="MODEL", help="a GGUF file, quantized or not, or what `ruvq quantize` reads"
    )
    parser.add_argument("output", metavar="FILE", help="the .onnx to write")
    parser.add_argument("--force", action="store_true", help="replace the output when it exists")
    parser.add_argument(
        "--format",
        default="f32",
        help="f32: the floats that the weights stand for (default); matmulnbits: 4 bits in blocks of 32, "
        "com.microsoft's MatMulNBits",
    )
    parser.add_argument(
        "--cache", action="store_true", help="keys and values of earlier tokens as inputs and outputs"
    )
    parser.add_argument(
        "--accuracy-level",
        type=int,
        default=0,
        choices=(0, 1, 2, 3, 4),
        help="of MatMulNBits (default 0: floats); 4 lets the runtime round activations to 8 bits",
    )
    parser.add_argument(
        "--external",
        action="store_true",
        default=None,
        help="weights in FILE.data (default: when they exceed 64 MB)",
    )
    parser.add_argument("--tokenizer", metavar="PATH", help="as for `ruvq quantize`")
    parser.add_argument("--config", metavar="FILE", help="config.json of a single .safetensors or .onnx file")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Runs the command."""
    from ..export import export_onnx

    with Progress(args.quiet, "B", "export", scale=True) as bar:
        report = export_onnx(
            args.input,
            args.output,
            args.format,
            cache=args.cache,
            accuracy_level=args.accuracy_level,
            external=args.external,
            tokenizer=args.tokenizer,
            config=args.config,
            overwrite=args.force,
            progress=bar.to,
        )
    note(args, report.summary())
    return report.as_dict()
