"""The wheel's scripts are linked by URL in the right order."""

from __future__ import annotations

import pytest

from ruvq.browser.scripts import link
from ruvq.errors import MissingDependencyError


def publisher():
    published: list[str] = []

    def publish(text: str) -> str:
        published.append(text)
        return f"blob:{len(published)}"

    return published, publish


def test_every_import_is_replaced_by_the_url_of_its_script():
    files = {
        "a.js": "\n".join(
            [
                '// import { a } from "./a.js";',
                'import { b } from "./b.js";',
                "export * from './c.js';",
                'const d = await import("./d.js");',
            ]
        ),
        "b.js": 'import "./c.js";',
        "c.js": "export const c = 1; // see ./b.js",
        "d.js": "export const d = 1;",
    }
    published, publish = publisher()
    urls = link(["a.js"], files.__getitem__, publish)
    assert set(urls) == set(files)
    assert published[int(urls["a.js"][5:]) - 1].splitlines() == [
        '// import { a } from "./a.js";',
        f'import {{ b }} from "{urls["b.js"]}";',
        f"export * from '{urls['c.js']}';",
        f'const d = await import("{urls["d.js"]}");',
    ]
    assert published[int(urls["c.js"][5:]) - 1] == files["c.js"]
    assert len(published) == 4


def test_a_circle_of_imports_is_refused():
    files = {"a.js": 'import "./b.js";', "b.js": 'import "./a.js";'}
    with pytest.raises(MissingDependencyError, match="circle"):
        link(["a.js"], files.__getitem__, publisher()[1])
