// ruvq.js: language models of 2 to 3 bits a weight in a page. The public interface; everything slow runs in a
// worker of its own.
//
//   import { Model } from "./ruvq.js";
//   const model = await Model.fetch("model.gguf", { onProgress: ({ loaded, total }) => show(loaded, total) });
//   for await (const piece of model.generate("Once upon a time", { maxTokens: 100, seed: 1 })) write(piece);
//   model.dispose();
import { checkUrl, isLocalSource } from "./download.js";
import { AbortError, UnsupportedError, UsageError, errorFromPlain } from "./errors.js";
import { checkThreads } from "./threads.js";

export * from "./errors.js";
export { diagnose } from "./diagnose.js";

/**
 * @typedef {object} LoadExtras
 * @property {(progress: {phase: "engine" | "download" | "read" | "verify" | "ready", loaded: number,
 *   total: number | null}) => void} [onProgress] bytes; `total` is null when the server doesn't say
 * @property {AbortSignal} [signal] stops loading, which then rejects with an AbortError
 * @property {string | URL} [workerURL] where worker.js is, when not beside this file; of the page's own origin
 * @property {number} [threads] that compute, the result is the same; default: the device's cores, at most 8. One
 *   is used where the page may not have more: `model.info.threads`, and `threadsNote` says why
 * @property {string | URL | Record<string, string>} [wasmURL] where ruvq.wasm is, when not beside this file;
 *   ruvq-relaxed.wasm is looked for beside it, or give both: {"relaxed-simd": ..., simd128: ...}
 * @property {string | URL} [wasmThreadsURL] the same of ruvq-threads.wasm, and
 * @property {string | URL} [poolWorkerURL] of pool-worker.js; both are needed for threads where wasmURL is given
 * @property {boolean} [splitAll] share out even work that is too small to gain by it, for tests
 */
/** @typedef {import("./local_model.js").ModelOptions & LoadExtras} LoadOptions */
/** @typedef {import("./generate.js").GenerateOptions & {signal?: AbortSignal}} GenerateOptions */
/** @typedef {import("./generate.js").GenerateStats & {engineBytes: number}} GenerateStats */

/** Addresses that the worker understands too. */
function absolute(wasmURL) {
  if (wasmURL.constructor !== Object) return new URL(wasmURL, globalThis.location?.href).href;
  return Object.fromEntries(Object.entries(wasmURL).map(([variant, address]) => [variant, absolute(address)]));
}

/** A model in a worker. Make one with `Model.fetch` or `Model.open`; give it back with `dispose`. */
export class Model {
  /**
   * Downloads a GGUF file straight into the engine's memory.
   * @param {string | URL} url relative to the page @param {LoadOptions} [options]
   * @returns {Promise<Model>}
   * @throws {DownloadError} no answer, an error status, a web page instead of a model, a cut connection
   * @throws {FileFormatError | ModelError | TokenizerError | DataError | IntegrityError} an unusable file
   * @throws {MemoryLimitError} it doesn't fit; where the server gives the size, before downloading
   * @throws {AbortError} `signal` was aborted
   */
  static async fetch(url, options = {}) {
    return Model._load({ url: checkUrl(url) }, options);
  }

  /**
   * Opens a model that is here already: a File or Blob, an ArrayBuffer or a view of one.
   * @param {Blob | BufferSource} source @param {LoadOptions} [options]
   * @returns {Promise<Model>} throws as `fetch` does
   */
  static async open(source, options = {}) {
    if (!isLocalSource(source)) {
      throw new UsageError("this can't be opened as a model", {
        expected: "a File, a Blob, an ArrayBuffer or a view of one",
        actual: source === null ? "null" : (source?.constructor?.name ?? typeof source),
        hint: "for an address use Model.fetch",
      });
    }
    return Model._load({ source }, options);
  }

  static async _load(from, { onProgress, signal, workerURL, threads, splitAll, ...rest }) {
    if (signal?.aborted) throw new AbortError();
    const { wasmURL, wasmThreadsURL, poolWorkerURL, ...options } = rest;
    const urls = engineURLs({ wasmURL, wasmThreadsURL, poolWorkerURL });
    const args = { ...from, urls, threads: checkThreads(threads), splitAll, options };
    const model = new Model(new WorkerLink(workerURL ?? new URL("./worker.js", import.meta.url)));
    try {
      const onEvent = (event) => onProgress?.({ phase: event.phase, loaded: event.loaded, total: event.total });
      const loaded = await model._link.request("load", args, { signal, onEvent });
      model.info = loaded.info;
      model.loadSeconds = loaded.loadSeconds;
      model.engineBytes = loaded.engineBytes;
      return model;
    } catch (error) {
      model.dispose();
      throw error;
    }
  }

  /** @private */
  constructor(link) {
    this._link = link;
    /** What the file holds: name, architecture, parameters, bitsPerWeight, formats, context ... */
    this.info = null;
    /** @type {{engine: number, transfer: number, open: number, all: number} | null} seconds that loading took: the
     * engine's module; the file's way into memory, its header checked meanwhile; `verify`, vocabulary and cache */
    this.loadSeconds = null;
    /** @type {GenerateStats | null} of the last generation */
    this.stats = null;
    /** Bytes of memory that the engine holds. */
    this.engineBytes = 0;
    this._current = null;
  }

  /**
   * Continues a prompt. The result is read with `for await`; leaving the loop or aborting `signal` stops the
   * engine after the token it is at, and so does another `generate`. An abort ends the loop without an error:
   * what was written stands, in the pieces and in `.text`, and `.stats.finishReason` is "aborted".
   * @param {string} prompt @param {GenerateOptions} [options]
   * @returns {Generation}
   */
  generate(prompt, options = {}) {
    return new Generation(this, prompt, options);
  }

  /**
   * The assistant's answer to messages, as `generate` gives a text: read with `for await`, stopped in the same
   * ways. The file's own chat template renders them; a special token spelled out in a message is text.
   * @param {import("./chat.js").Message[]} messages
   * @param {GenerateOptions & import("./chat.js").ChatOptions} [options]
   * @returns {Generation} reading it throws a TemplateError (no template, or it refuses) or a ContextFullError
   */
  chat(messages, options = {}) {
    return new Generation(this, messages, options, "chat");
  }

  /** What `chat` would let the model continue; to see and to count it.
   * @param {import("./chat.js").Message[]} messages
   * @param {import("./chat.js").ChatOptions & {addGenerationPrompt?: boolean}} [options]
   * @returns {Promise<import("./chat.js").ChatPrompt>} */
  chatPrompt(messages, options) {
    return this._link.request("chatPrompt", { messages, options });
  }

  /**
   * @param {string} text @param {{special?: boolean, parseSpecial?: boolean}} [options] see tokenizer.js
   * @returns {Promise<number[]>}
   */
  tokenize(text, options) {
    return this._link.request("tokenize", { text, options });
  }

  /** @param {Iterable<number>} ids @param {{special?: boolean}} [options] @returns {Promise<string>} */
  detokenize(ids, options) {
    return this._link.request("detokenize", { ids: Array.from(ids), options });
  }

  /** Hashes of the activations over all tokens so far, for a model loaded with {hashes: true}: after the
   * embedding, after each layer, of the logits. @returns {Promise<Uint32Array>} */
  hashes() {
    return this._link.request("hashes", {});
  }

  /** A model writes one text at a time: a new generation stops the one before and waits for it. */
  _takeTurn(stop) {
    const previous = this._current;
    let release;
    const finished = new Promise((resolve) => { release = resolve; });
    this._current = { stop, finished };
    previous?.stop.abort();
    return { ready: previous?.finished, release };
  }

  /** Ends the worker and its helpers: all of their memory goes back to the system, which takes a browser up to
   * two seconds where helpers sleep. May be called twice. */
  dispose() {
    this._link.close();
  }
}

/** One run of `generate`: an async iterable of pieces of text. Starts when it is first read. */
export class Generation {
  /** @private */
  constructor(model, prompt, options, call = "generate") {
    /** The text so far. */
    this.text = "";
    /** @type {GenerateStats | null} when it has ended */
    this.stats = null;
    /** Tokens of the prompt that are computed, and all of them. */
    this.prompt = { done: 0, total: 0 };
    /** Tokens a second so far. */
    this.tokensPerSecond = 0;
    this._pieces = this._run(model, call, prompt, options);
  }

  [Symbol.asyncIterator]() {
    return this._pieces;
  }

  async *_run(model, call, prompt, { signal, ...options }) {
    const stop = new AbortController();
    const forward = () => stop.abort();
    signal?.addEventListener("abort", forward);
    if (signal?.aborted) stop.abort();
    const { ready, release } = model._takeTurn(stop);
    await ready;
    const queue = new PieceQueue();
    const onEvent = (event) => {
      if (event.event === "prompt") this.prompt = { done: event.done, total: event.total };
      else {
        this.tokensPerSecond = event.tokensPerSecond;
        queue.push(event.text);
      }
    };
    const answer = model._link.request(call, { prompt, options }, { signal: stop.signal, onEvent });
    answer.then(() => queue.end(), (error) => queue.end(error)).finally(release);
    try {
      for (let piece = await queue.next(); piece !== undefined; piece = await queue.next()) {
        this.text += piece;
        yield piece;
      }
    } finally {
      stop.abort();
      signal?.removeEventListener("abort", forward);
      this.stats = model.stats = await answer.catch(() => null);
      if (this.stats) model.engineBytes = this.stats.engineBytes;
    }
  }
}

/** Pieces that arrive by messages, read by one consumer. */
class PieceQueue {
  constructor() {
    this._pieces = [];
    this._ended = false;
    this._wake = () => {};
  }

  push(piece) {
    if (piece) this._pieces.push(piece);
    this._wake();
  }

  end(error) {
    this._ended = true;
    this._error = error;
    this._wake();
  }

  /** @returns {Promise<string | undefined>} undefined at the end */
  async next() {
    while (this._pieces.length === 0 && !this._ended) {
      await new Promise((resolve) => { this._wake = resolve; });
    }
    if (this._pieces.length > 0) return this._pieces.shift();
    if (this._error) throw this._error;
    return undefined;
  }
}

/** Requests to a worker and their answers; the protocol is at the top of worker.js. */
class WorkerLink {
  constructor(url) {
    this._nextId = 1;
    this._open = new Map(); // id → {resolve, reject, onEvent}
    this._worker = new Worker(url, { type: "module", name: "ruvq" });
    this._worker.onmessage = ({ data }) => this._receive(data);
    this._worker.onerror = (event) => this._fail(workerError(url, event.message));
    this._worker.onmessageerror = () => this._fail(workerError(url, "a message that can't be read"));
  }

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

  _fail(error) {
    for (const request of this._open.values()) request.reject(error);
    this._open.clear();
  }

  close() {
    this._worker?.terminate();
    this._worker = null;
    this._fail(new AbortError("the model was disposed of, and its work"));
  }
}

/** Addresses of the modules and of the helpers' script, which lie beside this file unless they are given. */
function engineURLs({ wasmURL, wasmThreadsURL, poolWorkerURL }) {
  const given = (url) => (url ? absolute(url) : undefined);
  const beside = (name) => (wasmURL ? undefined : new URL(name, import.meta.url).href);
  return {
    wasmURL: given(wasmURL) ?? beside("./ruvq.wasm"),
    wasmThreadsURL: given(wasmThreadsURL) ?? beside("./ruvq-threads.wasm"),
    poolWorkerURL: given(poolWorkerURL) ?? beside("./pool-worker.js"),
  };
}

function workerError(url, message) {
  return new UnsupportedError("the worker failed", {
    subject: String(url),
    expected: "worker.js, served as JavaScript from the page's own origin",
    actual: message || "nothing that could be started",
    hint: "check workerURL; a content security policy needs worker-src 'self' and script-src 'wasm-unsafe-eval'",
  });
}
