// python-link.js: requests to a worker that runs Python, and how to stop one.
//
// Page → worker:   {id, call, args}, {stop: id}
// Worker → page:   {id, event}*, then {id, value} or {id, error}; {make, port}: see page_worker.js
// Python that waits (await) hears {stop}; Python that computes is interrupted through shared memory, which only
// an isolated page has. What hears neither is ended with its worker, and the next request starts a new one.
import { AbortError, UnsupportedError, errorFromPlain } from "../errors.js";
import { makeFor } from "../page_worker.js";
import { browserWorker } from "../threads.js";

const SIGINT = 2;
const PATIENCE_MS = 400; // until Python that has not stopped is taken to compute
const END_MS = 3000; // until its worker is ended

export class PythonLink {
  /** @param {() => Worker} makeWorker */
  constructor(makeWorker) {
    this._makeWorker = makeWorker;
    this._waiting = new Map(); // id → {resolve, reject, onEvent}
    this._nextId = 1;
    this._worker = null;
    this._made = []; // workers that it wanted
  }

  /**
   * @param {string} call @param {any[]} args
   * @param {{onEvent?: Function, signal?: AbortSignal, interrupt?: boolean, end?: boolean}} options `interrupt`: the
   *   signal interrupts Python that computes; `end`: it ends the worker where nothing else helps
   * @returns {Promise<any>}
   */
  request(call, args, { onEvent, signal, interrupt = false, end = false } = {}) {
    if (signal?.aborted) return Promise.reject(new AbortError(call));
    const id = this._nextId++;
    const timers = [];
    const stop = () => {
      this._worker?.postMessage({ stop: id });
      if (interrupt) timers.push(setTimeout(() => this._setFlag(SIGINT), PATIENCE_MS));
      if (end) timers.push(setTimeout(() => this.close(), END_MS));
    };
    signal?.addEventListener("abort", stop);
    return new Promise((resolve, reject) => {
      this._waiting.set(id, { resolve, reject, onEvent });
      const worker = this._start();
      this._setFlag(0); // an interrupt that came too late for the request before
      worker.postMessage({ id, call, args });
    }).finally(() => {
      signal?.removeEventListener("abort", stop);
      timers.forEach(clearTimeout);
    });
  }

  _start() {
    if (this._worker) return this._worker;
    const worker = (this._worker = this._makeWorker());
    worker.onmessage = ({ data }) => {
      if (data.make) this._made.push(makeFor(data, browserWorker));
      else this._receive(data);
    };
    worker.onerror = (event) => this._end(new UnsupportedError("the Python worker failed", {
      actual: event.message || "it could not be started", hint: "reload the page",
    }));
    this._flag = crossOriginIsolated ? new Uint8Array(new SharedArrayBuffer(1)) : null;
    if (this._flag) worker.postMessage({ id: 0, call: "interruptible", args: [this._flag] });
    return worker;
  }

  _setFlag(value) {
    if (this._flag) this._flag[0] = value;
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

  /** Ends the worker and all that it does. */
  close() {
    this._end(new AbortError("Python"));
  }

  _end(error) {
    for (const worker of [this._worker, ...this._made]) worker?.terminate();
    this._worker = null;
    this._made = [];
    for (const request of this._waiting.values()) request.reject(error);
    this._waiting.clear();
  }
}
