"""Hostile and broken inputs by the classes of docs/security.md: what makes each, and the verdict.

One corpus drives every host: `corpus.py` collects the files, `hosts.py` runs them natively, in Node, in a
page and in Pyodide, `table.py` writes what came of it into docs/security.md. Beside each class stand inputs
that are unusual and right, and must be accepted."""
