"""`ruvq inspect`: what a GGUF file holds."""

from __future__ import annotations

import argparse
from typing import Any

from .files import existing_gguf

EXAMPLES = """  ruvq inspect model.gguf
  ruvq inspect model.gguf --tensors --metadata
  ruvq inspect model.gguf --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    parser.add_argument("file", help="a GGUF file on this machine")
    parser.add_argument("--tensors", action="store_true", help="list every tensor, not only kinds of tensors")
    parser.add_argument("--metadata", action="store_true", help="list the metadata too")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Runs the command."""
    from ..gguf import inspect

    found = inspect(existing_gguf(args.file))
    if not args.json:
        print(_summary(args.file, found))
        print(_tensor_table(found["tensors"], each=args.tensors))
        if args.metadata:
            for key, value in found["metadata"].items():
                print(f"  {key} = {_shown(value)}")
    return {"file": args.file, **found}


def _shown(value: dict[str, Any]) -> str:
    """A described metadata value on one line."""
    if "first" not in value:
        return str(value["value"]).replace("\n", "\\n")
    more = ", ..." if value["count"] > len(value["first"]) else ""
    return f"[{', '.join(map(repr, value['first']))}{more}] ({value['count']:,}, {value['type']})"


def _summary(name: str, found: dict[str, Any]) -> str:
    digests = found.get("digests", {})
    recorded = [kind for kind in ("header", "tensors") if digests.get(kind)]
    lines = [
        f"{name}: GGUF version {found['gguf_version']}, {found['bytes']:,} bytes",
        f"architecture {found['architecture'] or 'none'}, {found['parameters']:,} weights, "
        f"{found['bits_per_weight']:.2f} bits per weight nominal, "
        f"{found['bits_per_weight_actual']:.2f} actual",
        f"layout version {found['layout_version'] or 'none'}; SHA-256 of: {', '.join(recorded) or 'nothing'}",
    ]
    recipe = found.get("recipe")
    if isinstance(recipe, dict) and recipe.get("command"):
        lines.append(f"made by: {recipe['command']} ({recipe.get('timestamp', 'no time recorded')})")
    return "\n".join(lines)


def _tensor_table(tensors: list[dict[str, Any]], *, each: bool) -> str:
    from ..quantize.plan import format_table

    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for tensor in tensors:
        name, in_block = tensor["name"], tensor["name"].startswith("blk.") and tensor["name"].count(".") > 1
        kind = name if each or not in_block else "blk.*." + name.split(".", 2)[2]
        groups.setdefault((kind, tuple(tensor["shape"]), tensor["format"], tensor["runnable"]), []).append(
            tensor
        )
    rows = [("tensors", "shape", "format", "", "nominal", "actual", "bytes")]
    for (kind, shape, format, runnable), members in groups.items():
        name = f"{kind} ({len(members)})" if len(members) > 1 else kind
        rows.append(
            (
                name,
                "x".join(map(str, shape)),
                format,
                "" if runnable else "listed only",
                f"{members[0]['bpw']:.2f}",
                f"{members[0]['bpw_actual']:.2f}",
                f"{sum(t['bytes'] for t in members):,}",
            )
        )
    return format_table(rows)
