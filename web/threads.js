// threads.js: an engine with helpers. Chooses how many threads and which module, starts the workers that help
// (pool-worker.js) while the model downloads, and falls back to one thread where anything of this fails.
import { CONSTANTS as C } from "./abi.js";
import { Engine } from "./engine.js";
import { AbortError, UsageError, UnsupportedError } from "./errors.js";
import { FEATURES } from "./features.js";

const MOST_BY_DEFAULT = 8; // memory bandwidth is used up by then on most machines
const MOST_ON_PHONES = 4; // more would be slow cores, and heat
const MOST_WITH_LITTLE_MEMORY = 2; // every thread costs a worker
const START_SECONDS = 10;

/** As poolWorkerURL: pool-worker.js lies beside this file. */
export const BESIDE = "beside";

/** A helper, made in this thread. The first form is what bundlers look for. */
export function browserWorker(url) {
  return url === BESIDE
    ? new Worker(new URL("./pool-worker.js", import.meta.url), { type: "module", name: "ruvq-pool" })
    : new Worker(url, { type: "module", name: "ruvq-pool" });
}

/**
 * @typedef {object} EngineURLs
 * @property {string | Record<string, string>} wasmURL the module for one thread, or its builds by variant
 * @property {string | Record<string, string>} [wasmThreadsURL] the module with shared memory
 * @property {string} [poolWorkerURL] pool-worker.js, or BESIDE
 */

/** Threads for this device, when nobody says how many. As far as a page or worker can tell. */
export function defaultThreads() {
  const { hardwareConcurrency = 1, deviceMemory = 8, userAgentData } = globalThis.navigator ?? {};
  const touch = globalThis.matchMedia?.("(pointer: coarse)").matches ?? false;
  let most = MOST_BY_DEFAULT;
  if (touch || userAgentData?.mobile || deviceMemory <= 4) most = MOST_ON_PHONES;
  if (deviceMemory <= 2) most = MOST_WITH_LITTLE_MEMORY;
  return Math.max(1, Math.min(hardwareConcurrency, most));
}

/** @param {unknown} threads what a user asked for, or undefined @returns {number} */
export function checkThreads(threads) {
  if (threads === undefined || threads === null) return defaultThreads();
  if (Number.isInteger(threads) && threads >= 1 && threads <= C.RQ_MAX_THREADS) return threads;
  throw new UsageError("not a number of threads", {
    subject: "threads", expected: `1 to ${C.RQ_MAX_THREADS}`, actual: String(threads),
  });
}

/**
 * An engine for so many threads, or for one with a `threadsNote` that says why. The helpers are still
 * starting: `await engine.pool.started` before telling anybody how many there are.
 * @param {EngineURLs} urls @param {number} threads
 * @param {{signal?: AbortSignal, splitAll?: boolean, note?: string, makeWorker?: (url: string) => any}} [options]
 *   `splitAll`: share out even what is too small to gain by it, for tests; `note`: why one thread was asked for;
 *   `makeWorker`: as for Pool.start
 * @returns {Promise<Engine>}
 */
export async function loadEngine(urls, threads, { signal, splitAll = false, note = "", makeWorker } = {}) {
  let threadsNote = threads > 1 ? whyNot(urls) : note;
  if (threads > 1 && !threadsNote) {
    try {
      const engine = await Engine.load(urls.wasmThreadsURL, { signal, shared: true });
      engine.pool = new Pool(engine, threads, { splitAll });
      engine.pool.start(urls.poolWorkerURL, makeWorker);
      return engine;
    } catch (error) {
      if (error instanceof AbortError) throw error;
      threadsNote = `the engine for threads could not be loaded: ${error.message}`;
    }
  }
  const engine = await Engine.load(urls.wasmURL, { signal });
  engine.threadsNote = threadsNote;
  return engine;
}

/** What is missing for threads, "" when nothing is. */
function whyNot({ wasmThreadsURL, poolWorkerURL }) {
  if (!FEATURES.threads()) return "the page is not cross-origin isolated; diagnose() says what is missing";
  if (!wasmThreadsURL || !poolWorkerURL) return "wasmURL was given without wasmThreadsURL and poolWorkerURL";
  return "";
}

/** Workers on an engine's memory. The engine's own thread is the first of `threads`. */
export class Pool {
  /** @param {Engine} engine with shared memory @param {number} threads @param {{splitAll?: boolean}} [options] */
  constructor(engine, threads, { splitAll = false } = {}) {
    this.engine = engine;
    this.threads = threads;
    const bytes = engine.call("rq_pool_bytes");
    this.address = engine.alloc(bytes, "the threads");
    const flags = (splitAll ? C.RQ_POOL_SMALL_JOBS : 0) | (FEATURES.mayBlock() ? 0 : C.RQ_POOL_SPIN);
    engine.call("rq_pool_init", this.address, this.address + bytes, threads, flags);
    this._workers = [];
    /** @type {Promise<void>} when every helper has started or failed; never rejects */
    this.started = Promise.resolve();
    /** Helpers that are at work. */
    this.helpers = 0;
    /** Why there are fewer than asked for, or "". */
    this.note = "";
  }

  /**
   * Starts the helpers. They begin once the caller's event loop gets a turn.
   * @param {string | URL} url of pool-worker.js
   * @param {(url: string | URL) => any} [makeWorker] in Node: (url) => new Worker(url) of node:worker_threads
   */
  start(url, makeWorker = browserWorker) {
    const starting = Array.from({ length: this.threads - 1 }, () => this._startOne(url, makeWorker));
    this.started = Promise.all(starting.map((one) => one.then(
      () => { this.helpers += 1; },
      (error) => { this.note = `a worker could not be started: ${error.message}`; },
    ))).then(() => {});
  }

  async _startOne(url, makeWorker) {
    const { engine } = this;
    const stack = engine.alloc(C.RQ_THREAD_STACK, "a thread's stack");
    const worker = makeWorker(url);
    this._workers.push(worker);
    let timer;
    try {
      await new Promise((resolve, reject) => {
        listen(worker, "message", (data) => (data?.error ? reject(new Error(data.error)) : resolve()));
        listen(worker, "error", (event) => reject(new UnsupportedError(event?.message || `${url} failed`)));
        timer = setTimeout(() => reject(new Error(`no answer in ${START_SECONDS} seconds`)), START_SECONDS * 1000);
        const stackTop = stack + C.RQ_THREAD_STACK;
        worker.postMessage({ module: engine.module, memory: engine.memory, pool: this.address, stackTop });
      });
    } finally {
      clearTimeout(timer);
    }
  }

  /** Threads that compute now. */
  get count() {
    return 1 + this.helpers;
  }

  /** Ends the helpers; the engine's memory stays. May be called twice. */
  close() {
    if (this._workers.length === 0) return;
    this.engine.call("rq_pool_close", this.address);
    for (const worker of this._workers) void worker.terminate();
    this._workers = [];
    this.helpers = 0;
  }
}

/** One listener for both kinds of workers: a browser's and Node's. */
function listen(worker, name, listener) {
  if (worker.addEventListener) {
    worker.addEventListener(name, (event) => listener(name === "message" ? event.data : event));
  } else worker.on(name, listener);
}
