"""Writes wasm_kernels/tokenizer/unicode_table.h: the letters, numbers, punctuation and spaces.

The header is committed, because tokens must not depend on the Unicode version of the Python at hand.
Run it with a Python whose `unicodedata` has the wanted version (VERSION below must say the same):

    python build/generate_unicode.py [--check]
"""

from __future__ import annotations

import argparse
import sys
import unicodedata
from pathlib import Path

VERSION = "14.0.0"
TABLE = Path(__file__).resolve().parent.parent / "wasm_kernels" / "tokenizer" / "unicode_table.h"
OTHER, LETTER, NUMBER, PUNCTUATION, SPACE = range(5)
CLASS_BITS = 3
PER_LINE = 12

HEADER = """\
/* unicode_table.h: classes of code points, Unicode {version}. Written by build/generate_unicode.py.
 * Each entry begins a range: first code point << {bits} | class, up to the next entry's first. */
#ifndef RQ_UNICODE_TABLE_H
#define RQ_UNICODE_TABLE_H
#include <stdint.h>

#define RQ_UNICODE_VERSION "{version}"
enum {{ RQ_UNICODE_CLASS_BITS = {bits} }};

/* clang-format off */
static const uint32_t rq_unicode_ranges[] = {{
{rows}
}};
/* clang-format on */

#endif
"""


def character_class(code_point: int) -> int:
    """L*, N*, P* or the White_Space property (which is Z* and seven controls)."""
    if 9 <= code_point <= 13 or code_point == 0x85:
        return SPACE
    category = unicodedata.category(chr(code_point))[0]
    return {"L": LETTER, "N": NUMBER, "P": PUNCTUATION, "Z": SPACE}.get(category, OTHER)


def ranges() -> list[tuple[int, int]]:
    """(first code point, class) of every range, in order."""
    out: list[tuple[int, int]] = []
    for code_point in range(sys.maxunicode + 1):
        found = character_class(code_point)
        if not out or out[-1][1] != found:
            out.append((code_point, found))
    return out


def render() -> str:
    """The header's text."""
    entries = [f"{first << CLASS_BITS | found}" for first, found in ranges()]
    rows = ["  " + ", ".join(entries[i : i + PER_LINE]) + "," for i in range(0, len(entries), PER_LINE)]
    return HEADER.format(version=VERSION, bits=CLASS_BITS, rows="\n".join(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="only say whether the header is up to date")
    check = parser.parse_args().check
    if unicodedata.unidata_version != VERSION:
        sys.exit(f"needs a Python with Unicode {VERSION}; this one has {unicodedata.unidata_version}")
    text = render()
    if check:
        if TABLE.read_text(encoding="utf-8") != text:
            sys.exit(f"{TABLE.name} is stale: run `python build/generate_unicode.py`")
        return
    TABLE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
