// worker_link.js: the page's end of a worker: requests and their answers, the storage that it asks for, and the
// helpers. The protocol is at the top of worker.js.
import { AbortError, UnsupportedError, UsageError, errorFromPlain, errorToPlain } from "./errors.js";
import { pageMemory } from "./model_store.js";
import { engineModules, threadModules } from "./modules.js";
import { makeFor } from "./page_worker.js";
import { STORAGE_METHODS, storageError } from "./storage.js";
import { BESIDE, browserWorker } from "./threads.js";

/** Requests to a worker of its own. */
export class WorkerLink {
  /**
   * @param {string | URL} [url] of worker.js, when not beside this file
   * @param {import("./storage.js").ModelStorage} [storage] that the worker may ask for
   */
  constructor(url, storage = pageMemory()) {
    this._nextId = 1;
    this._open = new Map(); // id → {resolve, reject, onEvent}
    this._storage = storage;
    this._helpers = []; // of the worker's engine
    // the second form is what bundlers look for
    this._worker = url
      ? new Worker(url, { type: "module", name: "ruvq" })
      : new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "ruvq" });
    const address = String(url ?? "worker.js");
    this._worker.onmessage = ({ data }) => this._hear(data);
    this._worker.onerror = (event) => this._fail(workerError(address, event.message));
    this._worker.onmessageerror = () => this._fail(workerError(address, "a message that can't be read"));
  }

  /** @returns {Promise<any>} */
  request(call, args, { signal, onEvent } = {}) {
    if (!this._worker) return Promise.reject(new UsageError("this model was disposed of", { subject: call }));
    const id = this._nextId++;
    const cancel = () => this._worker?.postMessage({ cancel: id });
    return new Promise((resolve, reject) => {
      this._open.set(id, { resolve, reject, onEvent });
      this._worker.postMessage({ id, call, args });
      if (signal?.aborted) cancel();
      signal?.addEventListener("abort", cancel);
    }).finally(() => signal?.removeEventListener("abort", cancel));
  }

  _hear(data) {
    if (!this._worker) return; // closed while this was under way
    if (data.ask) void this._answer(data);
    else if (data.make) this._helpers.push(makeFor(data, browserWorker));
    else this._receive(data);
  }

  _receive({ id, event, value, error, ...fields }) {
    const request = this._open.get(id);
    if (!request) return;
    if (event) {
      request.onEvent?.({ event, ...fields });
      return;
    }
    this._open.delete(id);
    if (error) request.reject(errorFromPlain(error));
    else request.resolve(value);
  }

  /** Does for the worker what it asks of the storage. */
  async _answer({ ask, method, args }) {
    let answer;
    try {
      if (!STORAGE_METHODS.includes(method)) throw new UsageError("no such method of a storage", { subject: method });
      answer = { reply: ask, value: await this._storage[method](...args) };
    } catch (error) {
      answer = { reply: ask, error: errorToPlain(storageError(error, this._storage, String(args[0] ?? ""))) };
    }
    this._worker?.postMessage(answer);
  }

  _fail(error) {
    for (const request of this._open.values()) request.reject(error);
    this._open.clear();
  }

  close() {
    for (const worker of [this._worker, ...this._helpers]) worker?.terminate();
    this._worker = null;
    this._helpers = [];
    this._fail(new AbortError("the model was disposed of, and its work"));
  }
}

// ---- a worker that is started before it is known what for ----

let ahead = null; // {link, key}
const keyOf = (workerURL, engine) => JSON.stringify([String(workerURL ?? ""), engine]);

/** @param {string | URL | undefined} workerURL @param {object} engine arguments of the worker's `prepare` */
export function startAhead(workerURL, engine) {
  ahead?.link.close();
  ahead = { link: new WorkerLink(workerURL), key: keyOf(workerURL, engine) };
  ahead.link.request("prepare", engine).catch(() => {}); // `load` meets the same error, and says it
}

/** The link that was started ahead, if it is for the same; else a new one. */
export function linkFor(workerURL, storage, engine) {
  if (!ahead || storage || ahead.key !== keyOf(workerURL, engine)) return new WorkerLink(workerURL, storage);
  const { link } = ahead;
  ahead = null;
  return link;
}

/** Addresses that the worker understands too. */
function absolute(wasmURL) {
  if (wasmURL.constructor !== Object) return new URL(wasmURL, globalThis.location?.href).href;
  return Object.fromEntries(Object.entries(wasmURL).map(([variant, address]) => [variant, absolute(address)]));
}

/** Addresses of the modules and of the helpers' script, which lie beside this file unless they are given. */
export function engineURLs({ wasmURL, wasmThreadsURL, poolWorkerURL }) {
  const given = (url) => (url ? absolute(url) : undefined);
  return {
    wasmURL: given(wasmURL) ?? engineModules(),
    wasmThreadsURL: given(wasmThreadsURL) ?? (wasmURL ? undefined : threadModules()),
    poolWorkerURL: given(poolWorkerURL) ?? (wasmURL ? undefined : BESIDE),
  };
}

function workerError(url, message) {
  return new UnsupportedError("the worker failed", {
    subject: url,
    expected: "worker.js, served as JavaScript from the page's own origin",
    actual: message || "nothing that could be started",
    hint: "check workerURL; a content security policy needs worker-src 'self' and script-src 'wasm-unsafe-eval'",
  });
}
