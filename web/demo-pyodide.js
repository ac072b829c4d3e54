// demo-pyodide.js: the page's Python host. Pyodide runs in a worker (demo-pyodide-worker.js), so that starting
// it does not freeze the page; there `import ruvq` does what the JavaScript host does here.
import { AbortError, UnsupportedError, errorFromPlain } from "./errors.js";

export const CODE = `import micropip
await micropip.install("ruvq")
import ruvq

model = await ruvq.Model.fetch("model.gguf", progress=progress)
async for piece in model.stream("Once upon a time", max_tokens=200):
    print(piece, end="")
model.close()`;

/** The same methods as JavaScriptHost. */
export class PyodideHost {
  constructor() {
    this._waiting = new Map(); // id → {resolve, reject, onEvent}
    this._nextId = 1;
    this._worker = new Worker(new URL("./demo-pyodide-worker.js", import.meta.url), { type: "module" });
    this._worker.onmessage = ({ data }) => this._receive(data);
    this._worker.onerror = (event) => this._failAll(new UnsupportedError("the Python worker failed", {
      actual: event.message || "it could not be started", hint: "reload the page",
    }));
  }

  async load({ url, file }, { onProgress, signal }) {
    const address = url ? new URL(url, document.baseURI).href : URL.createObjectURL(file);
    try {
      return await this._request("load", [address], { onEvent: onProgress, signal });
    } finally {
      if (!url) URL.revokeObjectURL(address);
    }
  }

  generate(prompt, options, { onPiece, signal }) {
    const onEvent = ({ text, tokensPerSecond }) => onPiece(text, tokensPerSecond);
    return this._request("generate", [prompt, options], { onEvent, signal });
  }

  dispose() {
    this._worker.terminate();
    this._failAll(new AbortError());
  }

  _request(call, args, { onEvent, signal }) {
    const id = this._nextId++;
    const stop = () => this._worker.postMessage({ stop: id });
    return new Promise((resolve, reject) => {
      this._waiting.set(id, { resolve, reject, onEvent });
      this._worker.postMessage({ id, call, args });
      signal?.addEventListener("abort", stop);
    }).finally(() => signal?.removeEventListener("abort", stop));
  }

  _receive({ id, event, value, error }) {
    const request = this._waiting.get(id);
    if (!request) return;
    if (event) {
      request.onEvent?.(event);
      return;
    }
    this._waiting.delete(id);
    if (error) request.reject(errorFromPlain(error));
    else request.resolve(value);
  }

  _failAll(error) {
    for (const request of this._waiting.values()) request.reject(error);
    this._waiting.clear();
  }
}
