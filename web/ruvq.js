// ruvq.js: language models of 2 to 3 bits a weight in a page. The public interface; everything slow runs in a
// worker of its own.
//
//   import { Model } from "./ruvq.js";
//   const model = await Model.fetch("model.gguf", { onProgress: ({ loaded, total }) => show(loaded, total) });
//   for await (const piece of model.generate("Once upon a time", { maxTokens: 100, seed: 1 })) write(piece);
//   model.dispose();
import { changeAdapter, loadAdapter } from "./adapter.js";
import { checkUrl, isLocalSource } from "./download.js";
import { AbortError, UsageError } from "./errors.js";
import { checkBudget } from "./features.js";
import { checkThreads } from "./threads.js";
import { engineURLs, linkFor, startAhead } from "./worker_link.js";

/** The release; the wheel of another one refuses to work with this script. */
export const version = "0.1.0";
export * from "./errors.js";
export { diagnose } from "./diagnose.js";
export { ModelLibrary } from "./model_library.js";
export { init } from "./kernels.js";
export { PiQuantWasm, QuantBenchWasm } from "./pi_quant.js";
export { compare, dequantize, matvec, quantize } from "./quant.js";
export { MemoryStorage, OpfsStorage } from "./storage.js";
export { Tokenizer } from "./tokenizer.js";

/**
 * @typedef {object} LoadExtras
 * @property {(progress: {phase: "engine" | "wait" | "cache" | "download" | "read" | "verify" | "ready",
 *   loaded: number, total: number | null}) => void} [onProgress] bytes, never more than `total`, which is null when
 *   nobody says; "wait": another tab is at the same file; "cache": from the store
 * @property {(notice: {kind: "memory" | "quota" | "storage" | "repair", message: string}) => void} [onNotice] what
 *   went otherwise than hoped while the model loads all the same; `model.notices` has them too
 * @property {number} [memoryBudget] most bytes of memory that the engine may take; default: 1 GiB on phones and
 *   tablets, else what WebAssembly allows. What needs more is refused, as early as that can be known
 * @property {import("./storage.js").ModelStorage} [storage] where `fetch` keeps files, instead of OPFS
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
/** @typedef {import("./local_model.js").ModelOptions & import("./arrival.js").KeepOptions & LoadExtras} LoadOptions */
/** @typedef {import("./generate.js").GenerateOptions & {signal?: AbortSignal}} GenerateOptions */
/** @typedef {import("./generate.js").GenerateStats & {engineBytes: number}} GenerateStats */

/** What a worker is told of its engine. */
function engineArguments({ wasmURL, wasmThreadsURL, poolWorkerURL, threads, splitAll = false }) {
  return { urls: engineURLs({ wasmURL, wasmThreadsURL, poolWorkerURL }), threads: checkThreads(threads), splitAll };
}

/** A model in a worker. Make one with `Model.fetch` or `Model.open`; give it back with `dispose`. */
export class Model {
  /**
   * Loads a GGUF file, from the store if it is there, else from the network straight into the engine's memory, and
   * keeps it. A download that was cut goes on where it broke off. Of a model in several files give the address of
   * the first, NAME-00001-of-00003.gguf, or all addresses in order.
   * @param {string | URL | (string | URL)[]} url relative to the page @param {LoadOptions} [options]
   * @returns {Promise<Model>}
   * @throws {DownloadError} no answer, an error status, a web page instead of a model, a cut connection
   * @throws {FileFormatError | ModelError | TokenizerError | DataError | IntegrityError} an unusable file
   * @throws {MemoryLimitError} it doesn't fit; where the server gives the size, before downloading
   * @throws {AbortError} `signal` was aborted
   */
  static async fetch(url, options = {}) {
    return Model._load({ addresses: (Array.isArray(url) ? url : [url]).map(checkUrl) }, options);
  }

  /**
   * Opens a model that is here already: a File or Blob, an ArrayBuffer or a view of one, or a list of all shards.
   * @param {Blob | BufferSource | (Blob | BufferSource)[]} source @param {LoadOptions} [options]
   * @returns {Promise<Model>} throws as `fetch` does
   */
  static async open(source, options = {}) {
    const sources = Array.isArray(source) ? source : [source];
    const wrong = sources.length === 0 ? [] : sources.find((one) => !isLocalSource(one));
    if (wrong !== undefined) {
      throw new UsageError("this can't be opened as a model", {
        expected: "a File, a Blob, an ArrayBuffer or a view of one",
        actual: wrong === null ? "null" : (wrong?.constructor?.name ?? typeof wrong),
        hint: "for an address use Model.fetch",
      });
    }
    return Model._load({ sources }, options);
  }

  /**
   * Starts a worker and its engine while the page is still finding out which model it wants. The next `fetch` or
   * `open` with the same of these options goes on with them; what goes wrong is said there.
   * @param {Pick<LoadOptions, "threads" | "workerURL" | "wasmURL" | "wasmThreadsURL" | "poolWorkerURL">} [options]
   */
  static prepare(options = {}) {
    startAhead(options.workerURL, engineArguments(options));
  }

  static async _load(from, { onProgress, onNotice, signal, workerURL, storage, ...rest }) {
    if (signal?.aborted) throw new AbortError();
    const { wasmURL, wasmThreadsURL, poolWorkerURL, threads, splitAll, ...more } = rest;
    const { memoryBudget, cache, sha256, bytes, ...options } = more;
    const engine = engineArguments({ wasmURL, wasmThreadsURL, poolWorkerURL, threads, splitAll });
    const args = {
      ...from, ...engine, options, keep: { cache, sha256, bytes }, memoryBudget: checkBudget(memoryBudget),
      storage: storage?.name,
    };
    const model = new Model(linkFor(workerURL, storage, engine));
    model._storage = storage?.name;
    const onEvent = ({ event, kind, message, phase, loaded, total }) => {
      if (event === "progress") onProgress?.({ phase, loaded, total });
      else {
        model.notices.push({ kind, message });
        onNotice?.({ kind, message });
      }
    };
    try {
      const loaded = await model._link.request("load", args, { signal, onEvent });
      model.info = loaded.info;
      model.source = loaded.source;
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
    /** @type {{kind: string, message: string}[]} what went otherwise than hoped while loading */
    this.notices = [];
    /** @type {{fromStore: boolean, kept: boolean[], sha256: string[]} | null} where its files came from, whether
     * each is in the store now, and its SHA-256 ("" where nobody needed it) */
    this.source = null;
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
   * @param {string | number[]} prompt text, or token ids as they are @param {GenerateOptions} [options]
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

  /**
   * The embedding of a text: the mean of the model's last states over its tokens. Stops a generation that runs.
   * @param {string} text @param {{normalize?: boolean, signal?: AbortSignal}} [options] `normalize`: to length 1,
   *   the default
   * @returns {Promise<Float32Array>} (width)
   */
  async embed(text, { normalize = true, signal } = {}) {
    const stop = new AbortController();
    const { ready, release } = this._takeTurn(stop);
    await ready;
    const forward = () => stop.abort();
    signal?.addEventListener("abort", forward);
    try {
      if (signal?.aborted) throw new AbortError("the embedding"); // a short text would be ready before it is told
      return await this._link.request("embed", { text, options: { normalize } }, { signal: stop.signal });
    } finally {
      signal?.removeEventListener("abort", forward);
      release();
    }
  }

  /**
   * Computes with a LoRA adapter from now on, beside those that are there: y = W x + scale alpha / rank B (A x).
   * The file, a GGUF in llama.cpp's layout, comes and is kept as `fetch` and `open` do it. Stops a generation that
   * runs once it is there; the model forgets all tokens.
   * @param {string | URL | Blob | BufferSource} source an address, or the file itself
   * @param {import("./adapter.js").AdapterOptions & import("./arrival.js").KeepOptions} [options]
   * @returns {Promise<import("./adapter.js").Adapter>} with `setScale` and `unload`
   * @throws {ModelError} it is no adapter, or one of another base model: its architecture, names or shapes don't
   *   fit; and what `fetch` throws
   */
  loadAdapter(source, options) {
    return loadAdapter(this, source, options);
  }

  /** Computes without any adapter from now on. */
  unloadAdapter() {
    return changeAdapter(this, "unloadAdapter", {});
  }

  /** A value of the file's metadata: number, boolean or text; of an array {count, elementType}.
   * @param {string} key @returns {Promise<unknown>} undefined when the file hasn't got it */
  metadata(key) {
    return this._link.request("metadata", { key });
  }

  /** @returns {Promise<string[]>} the keys of the metadata */
  metadataKeys() {
    return this._link.request("metadata", {});
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
    /** @type {import("./generate.js").TokenReport[]} of every token so far, where `logprobs` asks for them */
    this.logprobs = [];
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
        if (event.report) this.logprobs.push(event.report);
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
