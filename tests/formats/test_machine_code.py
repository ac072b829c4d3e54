"""What the compiler made of the sources: no fused multiply-add in anything that ships."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from ruvq.core.native import library_path

FUSED = re.compile(r"\b(v?fn?m(add|sub|la|ls)[a-z0-9]*|fml[as][a-z0-9]*|vfma[a-z0-9]*)\b")


def disassemble(path, *options: str) -> str:
    tool = next((t for t in ("llvm-objdump-19", "llvm-objdump", "objdump") if shutil.which(t)), None)
    if tool is None:
        pytest.fail("llvm-objdump is needed: install llvm")
    return subprocess.run([tool, "-d", *options, path], check=True, capture_output=True, text=True).stdout


def test_no_fused_multiply_add_in_the_native_library():
    text = disassemble(library_path(), "--no-show-raw-insn")
    assert "mulps" in text or "fmul" in text
    found = FUSED.search(text)
    assert found is None, found


def test_the_search_finds_one_where_there_is_one(tmp_path):
    source = tmp_path / "fused.c"
    source.write_text("float f(float a, float b, float c) { return a * b + c; }\n")
    target = ["--target=x86_64-linux-gnu", "-mfma"]
    output = tmp_path / "fused.o"
    subprocess.run(["clang-19", *target, "-O2", "-ffp-contract=fast", "-c", source, "-o", output], check=True)
    assert FUSED.search(disassemble(output, "--no-show-raw-insn"))


@pytest.mark.parametrize("name", ["ruvq.wasm", "ruvq-threads.wasm"])
def test_no_fused_multiply_add_in_the_webassembly_modules(repository, name):
    module = repository / "web" / name
    assert "relaxed_madd" not in disassemble(module)
    assert "f32x4.mul" in disassemble(module)
