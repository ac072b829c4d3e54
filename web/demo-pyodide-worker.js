// demo-pyodide-worker.js: Pyodide with ruvq installed, for demo-pyodide.js. Everything comes from this site's
// pyodide/ folder; no other server is asked.
//
// Messages: {id, call, args} → {id, event}*, then {id, value} or {id, error}; {stop: id} cancels.
const PYODIDE_VERSION = "314.0.7";
const FOLDER = new URL("./pyodide/", import.meta.url).href;

// Python's side: two coroutines that the messages call. `report` takes one JSON text per event.
const PROGRAM = `
import asyncio, json
import ruvq

model = None
tasks = {}

def error_json(error):
    if isinstance(error, asyncio.CancelledError):
        error = ruvq.RuvqError("loading was stopped")
        return json.dumps({"name": "AbortError", "summary": error.message})
    if not isinstance(error, ruvq.RuvqError):
        error = ruvq.RuvqError(f"{type(error).__name__}: {error}")
    fields = error.as_dict()
    return json.dumps({"name": fields.pop("error"), "summary": fields.pop("message"), **fields})

async def load(report, url):
    global model
    def progress(phase, loaded, total):
        report(json.dumps({"phase": phase, "loaded": loaded, "total": total}))
    if model:
        model.close()
        model = None
    model = await ruvq.Model.fetch(url, progress=progress, verify=True)
    return dict(model.info)

async def generate(report, prompt, options):
    pieces = model.stream(prompt, max_tokens=options["maxTokens"], temperature=options["temperature"],
                          seed=options.get("seed"))
    try:
        async for piece in pieces:
            report(json.dumps({"text": piece, "tokensPerSecond": pieces.tokens_per_second}))
    except asyncio.CancelledError:
        pass  # stopped: what was written stands
    finally:
        await pieces.aclose()
    return pieces.stats

async def serve(request, call, report, args):
    tasks[request] = asyncio.current_task()
    try:
        value = await {"load": load, "generate": generate}[call](report, *json.loads(args))
        return json.dumps({"value": value})
    except BaseException as error:
        return json.dumps({"error": json.loads(error_json(error))})
    finally:
        del tasks[request]

def stop(request):
    if request in tasks:
        tasks[request].cancel()
`;

let booted = null;

/** Starts Pyodide and installs ruvq, once. @returns {Promise<{serve: Function, stop: Function}>} */
async function boot(onProgress) {
  onProgress("python");
  const { loadPyodide } = await import(`${FOLDER}${PYODIDE_VERSION}/pyodide.mjs`);
  const base = `${FOLDER}${PYODIDE_VERSION}/`;
  const pyodide = await loadPyodide({ indexURL: base, packageBaseUrl: base });
  onProgress("packages");
  await pyodide.loadPackage("micropip", { messageCallback: () => {} });
  pyodide.globals.set("index", `${FOLDER}simple`);
  await pyodide.runPythonAsync("import micropip; micropip.set_index_urls(index)");
  await pyodide.runPythonAsync('await micropip.install("ruvq")');
  await pyodide.runPythonAsync(PROGRAM);
  return { serve: pyodide.globals.get("serve"), stop: pyodide.globals.get("stop") };
}

self.onmessage = async ({ data }) => {
  if (data.stop !== undefined) {
    (await booted)?.stop(data.stop);
    return;
  }
  const { id, call, args } = data;
  const emit = (event) => self.postMessage({ id, event });
  try {
    booted ??= boot((phase) => emit({ phase, loaded: 0, total: null }));
    const { serve } = await booted;
    const answer = await serve(id, call, (json) => emit(JSON.parse(json)), JSON.stringify(args));
    self.postMessage({ id, ...JSON.parse(answer) });
  } catch (error) {
    const hint = "build the site with `make demo`, which puts Pyodide beside the page; or use the JavaScript host";
    self.postMessage({ id, error: {
      name: "UnsupportedError", summary: "Python could not be started", subject: `${FOLDER}${PYODIDE_VERSION}/`,
      expected: "Pyodide and the ruvq wheel", actual: String(error.message ?? error), hint,
    } });
  }
};
