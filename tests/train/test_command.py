"""`ruvq qat`, end to end on stories260K, in one process and in two."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ruvq
from ruvq.cli.main import main
from ruvq.evaluate import perplexity


def arguments(data_dir: Path, output: Path, *more: str) -> list[str]:
    """A short run on a piece of the stories."""
    text = output.parent / "stories.txt"
    if not text.exists():
        text.write_text((data_dir / "text/tiny_stories_train.txt").read_text()[:40000])
    model = data_dir / "stories260K"
    return [
        "qat", "--model", str(model / "stories260K.bin"), "--tokenizer", str(model / "tok512.bin"),
        "--text", str(text), "--output", str(output), "--batch-size", "2", "--window", "64",
        "--json", "--quiet", *more,
    ]  # fmt: skip


def report(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    code = main(list(words))
    out = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert code == out.get("exit_code", 0)
    return out


@pytest.mark.parametrize(
    ("format", "steps"), [("pi-t2", "25"), pytest.param("pi-x2", "40", marks=pytest.mark.slow)]
)
def test_from_start_to_a_file_that_runs(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], format: str, steps: str
) -> None:
    path = tmp_path / "qat.gguf"
    found = report(capsys, *arguments(data_dir, path, "--format", format, "--steps", steps))
    assert found["perplexity"] < 0.6 * found["perplexity_start"]
    assert found["perplexity_float"] < found["perplexity"]
    assert 2 < found["bits_per_weight_actual"] < 2.5
    text = (data_dir / "text/tiny_stories_test.txt").read_text()
    ruvq.quantize_model(
        data_dir / "stories260K/stories260K.bin", tmp_path / "ptq.gguf", format,
        tokenizer=data_dir / "stories260K/tok512.bin", progress=False,
    )  # fmt: skip
    with ruvq.Model.open(path) as trained, ruvq.Model.open(tmp_path / "ptq.gguf") as plain:
        assert perplexity(trained, text, max_tokens=600) < perplexity(plain, text, max_tokens=600)
        assert trained.info.vocab_size == 512


def test_settings_adapters_checkpoint_and_resume(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ruvq.toml").write_text(
        '[quantization]\nformat = "pi-t3"\n[qat]\nuse_lora = true\nlora_rank = 4\n'
    )
    more = ("--settings", str(tmp_path / "ruvq.toml"), "--checkpoint", str(tmp_path / "run"), "--resume")
    words = arguments(
        data_dir, tmp_path / "a.gguf", *more, "--steps", "2", "--adapters", str(tmp_path / "lora")
    )
    first = report(capsys, *words)
    assert (first["format"], first["settings"]["qat"]["lora_rank"], first["resumed"]) == ("pi-t3", 4, False)
    assert {p.name for p in (tmp_path / "lora").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    again = report(capsys, *words, "--force")
    assert again["resumed"]
    assert again["perplexity"] == first["perplexity"]


def test_a_quantized_file_is_trained_further_and_imitates_the_float_model(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, tokenizer = data_dir / "stories260K/stories260K.bin", data_dir / "stories260K/tok512.bin"
    ruvq.quantize_model(model, tmp_path / "ptq.gguf", "pi-t3", tokenizer=tokenizer, progress=False)
    words = arguments(data_dir, tmp_path / "qat.gguf", "--format", "pi-t3", "--steps", "1")
    words[words.index("--model") + 1] = str(tmp_path / "ptq.gguf")
    found = report(capsys, *words, "--teacher", str(model))
    assert found["perplexity_start"] == pytest.approx(found["perplexity_float"], rel=0.02)  # the same codes
    assert found["kl"] > 0.01  # from a teacher that isn't the file itself


@pytest.mark.parametrize(
    ("more", "message", "code"),
    [
        (("--format", "pi-t9"), "setting", 2),
        (("--learning-rate", "fast"), "learning rate", 2),
        (("--ste", "none"), "setting", 2),
        (("--device", "cuda:7"), "no such device", 2),
        (("--teacher", "none.gguf"), "no such file", 3),
    ],
)
def test_bad_input(
    data_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    message: str,
    code: int,
) -> None:
    found = report(capsys, *arguments(data_dir, tmp_path / "x.gguf", *more))
    assert message in found["message"]
    assert found["exit_code"] == code
    assert not (tmp_path / "x.gguf").exists()


LAUNCHERS = {
    "torchrun": ["torch.distributed.run", "--nproc_per_node=2", "--master_port=29517"],
    "accelerate": [
        "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1",
        "--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=29519",
    ],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_processes_train_one_model(data_dir: Path, tmp_path: Path, launcher: str) -> None:
    """gloo between CPUs: both see other text, and end with the same codes; one of them writes."""
    words = arguments(data_dir, tmp_path / "two.gguf", "--format", "pi-t2", "--steps", "3", "--threads", "1")
    launch = [sys.executable, "-m", *LAUNCHERS[launcher], "-m", "ruvq.cli"]
    done = subprocess.run(
        [*launch, *words], capture_output=True, text=True, timeout=500, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(lines) == 2
    assert lines[0]["perplexity"] == lines[1]["perplexity"]
    assert lines[0]["tokens"] == 3 * 2 * 2 * 64
    with ruvq.Model.open(tmp_path / "two.gguf") as model:
        assert model.info.vocab_size == 512


def test_a_base_ships_with_an_adapter_beside_it(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The base is what plain quantization gives; the adapter takes back what it lost, in the engine too."""
    base, adapter = tmp_path / "base.gguf", tmp_path / "adapter.gguf"
    more = ("--format", "pi-t2", "--use-lora", "--lora-init", "error", "--lora-rank", "8", "--steps", "20")
    found = report(capsys, *arguments(data_dir, base, *more, "--ship-adapter", str(adapter)))
    assert found["perplexity"] < found["perplexity_start"]
    ruvq.quantize_model(
        data_dir / "stories260K/stories260K.bin", tmp_path / "ptq.gguf", "pi-t2",
        tokenizer=data_dir / "stories260K/tok512.bin", progress=False,
    )  # fmt: skip
    with ruvq.GGUFFile.open(base) as shipped, ruvq.GGUFFile.open(tmp_path / "ptq.gguf") as plain:
        for name in (t.name for t in plain.tensors):
            assert bytes(shipped.tensor_bytes(name)) == bytes(plain.tensor_bytes(name)), name
    text = (data_dir / "text/tiny_stories_test.txt").read_text()
    with ruvq.Model.open(base, kv="f32") as model:
        alone = perplexity(model, text, max_tokens=600)
        one = model.load_adapter(adapter)
        together = perplexity(model, text, max_tokens=600)
        assert together < 0.8 * alone
        one.scale = 0.0
        assert perplexity(model, text, max_tokens=600) == alone


def test_an_adapter_is_shipped_only_where_there_is_one(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for more in (("--ship-adapter", str(tmp_path / "a.gguf")), ("--use-lora", "--ship-adapter", "folder")):
        found = report(capsys, *arguments(data_dir, tmp_path / "x.gguf", "--format", "pi-t2", *more))
        assert found["exit_code"] == 2
        assert found["subject"] == "--ship-adapter"
        assert not (tmp_path / "x.gguf").exists()
