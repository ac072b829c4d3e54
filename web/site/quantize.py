"""What quantize-worker.js asks of Python: one model in one format, with progress and samples to plot."""

import json

from pyodide.ffi import to_js

import ruvq
from ruvq import core
from ruvq.browser import templates

await templates.load()  # a chat template is rendered before it is stored, and here is no Jinja2

SAMPLE_WEIGHTS = 1 << 16  # of each tensor, looked at for the plots


def error_json(error):
    """An error by the fields of errors.js."""
    if isinstance(error, KeyboardInterrupt):
        return {"name": "AbortError", "summary": "quantizing was stopped"}
    if not isinstance(error, ruvq.RuvqError):
        error = ruvq.RuvqError(f"{type(error).__name__}: {error}")
    fields = error.as_dict()
    return {"name": fields.pop("error"), "summary": fields.pop("message"), **fields}


def sampler(observe):
    """An observer of `quantize_model` that passes the first weights of every matrix to JavaScript."""
    seen = set()

    def look(name, rows, width, weights, decoded):
        if rows < 2 or name in seen:
            return
        seen.add(name)
        nbytes = 4 * width * max(1, min(rows, SAMPLE_WEIGHTS // width))
        views = [core.get().view(address, nbytes).cast("f") for address in (weights, decoded)]
        observe(width, *map(to_js, views))

    return look


def run(path, output, options, report, observe):
    """Quantizes; gives {"value": the report} or {"error": ...} as JSON."""

    def progress(step):
        report(json.dumps({"tensor": step.tensor, "done": step.bytes_done, "total": step.bytes_total}))

    try:
        made = ruvq.quantize_model(
            path, output, progress=progress, observe=sampler(observe), overwrite=True, **json.loads(options)
        )
        return json.dumps({"value": made.as_dict()})
    except BaseException as error:
        return json.dumps({"error": error_json(error)})
