"""Generates what Python and JavaScript know of the C interface from wasm_kernels/include/ruvq.h.

    python build/generate_abi.py           write the generated files
    python build/generate_abi.py --check   exit 1 and say which are stale

Written: py/ruvq/core/abi.py (constants, errors, struct layouts, signatures), py/ruvq/core/_cffi_abi.py
(cffi's out-of-line ABI module) and web/abi.js. Public structs hold no pointers, so one layout serves
the 64-bit native library and 32-bit WebAssembly; this script refuses a header that breaks that.
"""

from __future__ import annotations

import argparse
import json
import pprint
import re
import sys
import tempfile
from pathlib import Path

import cffi

ROOT = Path(__file__).resolve().parent.parent
HEADER = ROOT / "wasm_kernels" / "include" / "ruvq.h"
NOTE = "Generated from wasm_kernels/include/ruvq.h by build/generate_abi.py; do not edit."
WASM_ONLY = ("rq_alloc", "rq_free", "rq_limit_memory")
SCALARS = {
    "int8_t": "i1", "uint8_t": "u1", "char": "u1", "int16_t": "i2", "uint16_t": "u2",
    "int32_t": "i4", "uint32_t": "u4", "int64_t": "i8", "uint64_t": "u8", "float": "f4", "double": "f8",
}  # fmt: skip


def declarations(header: str) -> str:
    """The header without comments and preprocessor lines: what cffi's parser takes."""
    text = re.sub(r"/\*.*?\*/", "", header, flags=re.S)
    text = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    return re.sub(r"\n\s*\n+", "\n", text).strip() + "\n"


def constants(header: str) -> dict[str, int]:
    """Every RQ_* number: enumerators and integer #defines."""
    found = {m[1]: int(m[2]) for m in re.finditer(r"#define (RQ_\w+) (\d+)", header)}
    code = declarations(header)
    for body in re.findall(r"enum\s*\{(.*?)\}", code, flags=re.S):
        for name, value in re.findall(r"(RQ_\w+)\s*=\s*(-?\d+)", body):
            found[name] = int(value)
    return found


def error_texts(header: str) -> dict[int, tuple[str, str]]:
    """Error code → (name, its one line)."""
    rows = re.findall(r"^\s*(RQ_E_\w+) = (-\d+),\s*/\* (.*?) \*/", header, flags=re.M)
    return {int(code): (name, text) for name, code, text in rows}


def struct_layouts(ffi: cffi.FFI, code: str) -> dict[str, dict]:
    """Struct name → {size, fields: name → (offset, scalar code or struct name, count)}."""
    layouts: dict[str, dict] = {}
    for name in re.findall(r"typedef struct (rq_\w+)", code):
        fields = {}
        for field, info in ffi.typeof(name).fields:
            kind, count = info.type, 1
            while kind.kind == "array":
                kind, count = kind.item, count * kind.length
            if kind.kind == "pointer":
                raise SystemExit(
                    f"{name}.{field} is a pointer: public structs must have one layout everywhere"
                )
            fields[field] = (info.offset, SCALARS.get(kind.cname, kind.cname.removeprefix("struct ")), count)
        layouts[name] = {"size": ffi.sizeof(name), "fields": fields}
    return layouts


def signatures(code: str) -> dict[str, tuple[str, str]]:
    """Function → (result, arguments), a letter each: p pointer, e rq_error *, i int32, u uint32, f float,
    v void."""

    def letter(text: str) -> str:
        text = text.strip()
        if "*" in text:
            return "e" if text.startswith("rq_error") else "p"
        word = text.split()[0]
        try:
            return {"int32_t": "i", "uint32_t": "u", "float": "f", "void": "v"}[word]
        except KeyError:
            raise SystemExit(f"the interface takes no {word!r} by value") from None

    found = {}
    for result, name, arguments in re.findall(r"^([\w ]+?[ *]+)(rq_\w+)\(([^)]*)\);", code, flags=re.M):
        letters = "" if arguments.strip() == "void" else "".join(letter(a) for a in arguments.split(","))
        found[name] = (letter(result), letters)
    return found


def render(header: str) -> dict[Path, str]:
    """The generated files: path → text."""
    code = declarations(header)
    ffi = cffi.FFI()
    ffi.cdef(code)
    numbers, errors = constants(header), error_texts(header)
    layouts, functions = struct_layouts(ffi, code), signatures(code)

    native = cffi.FFI()
    native.cdef("\n".join(line for line in code.splitlines() if not any(f"{w}(" in line for w in WASM_ONLY)))
    native.set_source("ruvq.core._cffi_abi", None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "_cffi_abi.py"
        native.emit_python_code(str(path))
        cffi_module = path.read_text()

    def python(name: str, value: object) -> str:
        return f"{name} = {pprint.pformat(value, width=108, sort_dicts=False)}\n"

    abi_py = "\n".join(
        [
            f'"""{NOTE}"""\n',
            python("CONSTANTS: dict[str, int]", numbers),
            "# error code: (name, meaning)",
            python("ERRORS: dict[int, tuple[str, str]]", errors),
            "# struct: size and fields, each (offset, scalar or struct, count)",
            python("STRUCTS: dict[str, dict]", layouts),
            "# function: (result, arguments); p pointer, e rq_error *, i int32, u uint32, f float, v void",
            python("FUNCTIONS: dict[str, tuple[str, str]]", functions),
        ]
    )

    def javascript(name: str, value: object) -> str:
        return f"export const {name} = {json.dumps(value, indent=1)};\n"

    abi_js = "\n".join(
        [
            f"// {NOTE}\n",
            javascript("CONSTANTS", numbers),
            "// error code: [name, meaning]",
            javascript("ERRORS", errors),
            "// struct: size and fields, each [offset, scalar or struct, count]",
            javascript("STRUCTS", layouts),
            "// function: [result, arguments]; p pointer, e rq_error *, i int32, u uint32, f float, v void",
            javascript("FUNCTIONS", functions),
        ]
    )
    core = ROOT / "py" / "ruvq" / "core"
    return {core / "abi.py": abi_py, core / "_cffi_abi.py": cffi_module, ROOT / "web" / "abi.js": abi_js}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="only compare; exit 1 when a file is stale")
    check = parser.parse_args().check
    stale = []
    for path, text in render(HEADER.read_text()).items():
        if not path.exists() or path.read_text() != text:
            stale.append(path.relative_to(ROOT))
            if not check:
                path.write_text(text)
    if check and stale:
        print("stale, run `python build/generate_abi.py`:", *stale, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
