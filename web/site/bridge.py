"""What the page's workers ask of Python: a model's text, and the program of the Python view.

Each request is a coroutine, so that `stop` can cancel it. Answers and events are JSON texts.
"""

import asyncio
import contextlib
import json
import sys
import traceback

import pyodide_js
from pyodide.code import eval_code_async, find_imports

import ruvq

model = None
tasks = {}  # of the requests under way


def error_json(error):
    """An error by the fields of errors.js."""
    if isinstance(error, (asyncio.CancelledError, KeyboardInterrupt)):
        return {"name": "AbortError", "summary": "it was stopped"}
    if not isinstance(error, ruvq.RuvqError):
        error = ruvq.RuvqError(f"{type(error).__name__}: {error}")
    fields = error.as_dict()
    return {"name": fields.pop("error"), "summary": fields.pop("message"), **fields}


async def load(report, urls, sha256):
    """The model that `generate` and `chat` use, instead of the one before."""
    global model
    if model:
        model.close()
        model = None

    def progress(phase, loaded, total):
        report(json.dumps({"phase": phase, "loaded": loaded, "total": total}))

    address = urls[0] if len(urls) == 1 else urls
    cache = "no-store" if urls[0].startswith("blob:") else "default"  # a file of the disk needs no copy
    model = await ruvq.Model.fetch(
        address, progress=progress, verify=True, cache=cache, sha256=sha256 or None
    )
    return dict(model.info)


def sampling(options):
    """The page's options by Python's names."""
    names = {"maxTokens": "max_tokens", "temperature": "temperature", "topP": "top_p", "topK": "top_k"}
    names |= {"minP": "min_p", "seed": "seed", "stop": "stop"}
    return {names[name]: value for name, value in options.items()}


async def read(report, pieces):
    """All pieces, as they come; the stats."""
    try:
        async for piece in pieces:
            report(json.dumps({"text": piece, "tokensPerSecond": pieces.tokens_per_second}))
    except asyncio.CancelledError:
        pass  # stopped: what was written stands
    finally:
        await pieces.aclose()
    return pieces.stats


async def generate(report, prompt, options):
    """Continues a text."""
    return await read(report, model.stream(prompt, **sampling(options)))


async def cannot_chat(report):
    """Why the model can't chat, "" when it can."""
    try:
        await model.stream_chat([{"role": "user", "content": "Hello"}], 0).next_piece()
    except ruvq.RuvqError as error:
        return error.message
    return ""


async def chat(report, messages, options):
    """The next message of a conversation."""
    return await read(report, model.stream_chat(messages, **sampling(options)))


class Printer:
    """A text file that tells the page what is printed."""

    def __init__(self, report, kind):
        self.report, self.kind = report, kind

    def write(self, text):
        self.report(json.dumps({"text": text, "kind": self.kind}))
        return len(text)

    def flush(self):
        """Everything is passed on at once."""


def explain(error):
    """A traceback from the program's own lines on."""
    trace = error.__traceback__
    while trace and trace.tb_frame.f_code.co_filename != "<program>":
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace))


async def bring_micropip(code):
    """micropip for a program that imports it, with this site's index; it isn't loaded for others."""
    try:
        wanted = "micropip" in find_imports(code)
    except SyntaxError:
        return  # running it says so
    if wanted and "micropip" not in sys.modules:
        await pyodide_js.loadPackage("micropip", messageCallback=lambda text: None)
        import micropip

        micropip.set_index_urls(package_index)  # noqa: F821 - set by python-boot.js


async def cell(report, code, names):
    """Runs a program; `names` are set before it. Its own errors are part of the output."""
    space = {"__name__": "__main__", **names}
    out, err = Printer(report, "out"), Printer(report, "error")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            await bring_micropip(code)
            value = await eval_code_async(code, space, filename="<program>")
            if value is not None:
                print(repr(value))
        except (asyncio.CancelledError, KeyboardInterrupt):
            err.write("\nstopped\n")
            return {"ok": False, "stopped": True}
        except BaseException as error:
            err.write(explain(error))
            return {"ok": False}
    return {"ok": True}


CALLS = {"load": load, "generate": generate, "chat": chat, "cannotChat": cannot_chat, "cell": cell}


async def serve(request, call, report, args):
    """One request; gives {"value": ...} or {"error": ...} as JSON."""
    tasks[request] = asyncio.current_task()
    try:
        return json.dumps({"value": await CALLS[call](report, *json.loads(args))})
    except BaseException as error:
        return json.dumps({"error": error_json(error)})
    finally:
        del tasks[request]


def stop(request):
    """Cancels a request that is under way."""
    if request in tasks:
        tasks[request].cancel()
