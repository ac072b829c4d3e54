"""Trains the bundled model on with its 2 bits in the loop, and keeps the float weights that this leaves.

    python build/model/retrain.py --data ../shared/data --minutes 30 --out web/model
    python build/model/retrain.py --data ../shared/data --steps 900 --out out/retrained    the same anywhere

As `ruvq qat` does it by default, on the real stories, with the model itself as the teacher.
The codes are those that plain `ruvq quantize` finds for the trained weights, so the folder that comes out is
a float model like any other, which loses less when it is quantized. It prints perplexities of
`tiny_stories_test.txt` for the formats of the demo, before and after. --out may be the model's own folder:
its weights are replaced at the end, in one step.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "build"), str(ROOT / "py")]

import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

import ruvq  # noqa: E402
from data_folder import add_data, lacks  # noqa: E402
from ruvq.cli.qat_command import DEFAULTS  # noqa: E402
from ruvq.evaluate.perplexity import perplexity  # noqa: E402
from ruvq.train import QatConfig, RunOptions, Work, checkpoint, qat  # noqa: E402
from ruvq.train.run import AUTO_RATE  # noqa: E402

MODEL = ROOT / "web" / "model"
WEIGHTS = "model.safetensors"
SHOWN = ("f16", "pi-t3", "pi-x2", "pi-t2", "ternary")


def train(args: argparse.Namespace, folder: Path) -> dict[str, torch.Tensor]:
    """The trained weights, by the names that the model's file has."""
    config = QatConfig.preset(args.format, **DEFAULTS)
    options = RunOptions(
        steps=args.steps or 10**9,
        max_seconds=None if args.steps else 60 * args.minutes,
        auto_rate=AUTO_RATE,
        folder=folder / "checkpoint",
    )
    work = Work(threads=args.threads, device=args.device, events=args.events)
    texts = [str(args.data / "text/tiny_stories_train.txt")]
    report = qat(MODEL, texts, folder / "trained.gguf", config, options, work)
    print(f"{report.steps:,} steps, {report.tokens:,} tokens, {report.seconds / 60:.1f} min")
    state = checkpoint.load(folder / "checkpoint", checkpoint.LAST)
    assert state is not None
    return {name: state["best"][name] for name in load_file(MODEL / WEIGHTS)}


def write(weights: dict[str, torch.Tensor], out: Path) -> None:
    """The model's folder with these weights, in F16."""
    out.mkdir(parents=True, exist_ok=True)
    for path in MODEL.iterdir():
        if path.name != WEIGHTS and out.resolve() != MODEL:
            shutil.copyfile(path, out / path.name)
    part = out / f"{WEIGHTS}.part"
    save_file({name: w.to(torch.float16).contiguous() for name, w in weights.items()}, part, {"format": "pt"})
    part.chmod(0o644)  # save_file keeps it to its owner
    os.replace(part, out / WEIGHTS)


def measured(model: Path, text: str, folder: Path) -> dict[str, float]:
    """Perplexity of each format, as plain quantization makes it."""
    found = {}
    for name in SHOWN:
        path = folder / f"{name}.gguf"
        ruvq.quantize_model(model, path, name, progress=False, overwrite=True)
        with ruvq.Model.open(path) as opened:
            found[name] = float(perplexity(opened, text))
    return found


def main() -> int:
    """Trains, writes and compares."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    add_data(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder for the model")
    parser.add_argument("--format", default="pi-t2")
    parser.add_argument("--minutes", type=float, default=30.0, help="of training")
    parser.add_argument("--steps", type=int, default=0, help="so many steps instead")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--events", metavar="FILE", help="as for `ruvq qat`")
    args = parser.parse_args()
    if lacks(args.data, "text"):
        return 3
    text = (args.data / "text/tiny_stories_test.txt").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="ruvq-retrain-") as name:
        folder = Path(name)
        before = measured(MODEL, text, folder)
        write(train(args, folder), args.out)
        after = measured(args.out, text, folder)
    for format in SHOWN:
        print(f"{format}: {before[format]:.2f}, trained {after[format]:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
