// local_model.js: a model in this thread: file, tokenizer, weights in place, KV cache and logits, all in
// engine memory. Synchronous; worker.js drives it for pages, Node uses it directly.
//
//   const engine = await Engine.load(bytesOfRuvqWasm);
//   const model = LocalModel.fromBytes(engine, bytesOfTheGgufFile);
//   for (const step of model.generate("Once upon a time", { maxTokens: 50 })) out += step.text;
import { CONSTANTS as C, STRUCTS } from "./abi.js";
import { bytesOf } from "./engine.js";
import { UsageError } from "./errors.js";
import { generate, promptTokens } from "./generate.js";
import { AdapterLoader, LocalAdapter } from "./local_adapter.js";
import { ModelLoader } from "./model_loader.js";
import { describe, withOptions } from "./model_options.js";
import { Sampler } from "./sampler.js";
import { Tokenizer } from "./tokenizer.js";
import { checkTokenizer } from "./tokenizer-check.js";

/**
 * @typedef {object} ModelOptions
 * @property {number} [context] most tokens of a text; 0: what the file says, at most 4096
 * @property {"f16" | "f32"} [kv] how keys and values are kept; f16 takes half the memory
 * @property {number} [batch] most tokens of a prompt computed in one step
 * @property {boolean} [hashes] keep a hash of the activations after every layer
 * @property {boolean} [scalar] the reference kernels only: slow, for comparison
 * @property {boolean} [verify] check all weights and the recorded SHA-256 sums when loading; default false
 */

/** A model ready to run. */
export class LocalModel {
  /**
   * @param {import("./engine.js").Engine} engine
   * @param {BufferSource | BufferSource[]} source a file, or all shards of a model in order
   * @param {ModelOptions} [options]
   */
  static fromBytes(engine, source, options) {
    return loadBytes(new ModelLoader(engine, options), Array.isArray(source) ? source : [source], LocalModel);
  }

  /** Takes over `file` and `memory` only when it succeeds. */
  constructor(engine, file, memory, memoryBytes, options) {
    this.engine = engine;
    this.file = file;
    this.tokenizer = new Tokenizer(engine, file);
    this._history = []; // tokens computed or waiting
    /** @type {Set<LocalAdapter>} */ this.adapters = new Set();
    try {
      checkTokenizer(file, this.tokenizer);
      withOptions(engine, options, (address) =>
        engine.call("rq_model_open", file.index, file.address, address, memory, memory + memoryBytes));
      if (engine.pool) engine.call("rq_model_use_pool", memory, engine.pool.address);
      this._memory = memory;
      this.shape = engine.withMemory(STRUCTS.rq_model_info.size, (info) => {
        engine.call("rq_model_describe", memory, info);
        return engine.readStruct("rq_model_info", info);
      });
      this._sampler = new Sampler(engine, this.shape.vocab_size);
    } catch (error) {
      this.tokenizer.dispose();
      throw error;
    }
    this._hashing = (options.flags & C.RQ_MODEL_HASHES) !== 0;
    this.info = {
      ...describe(file, this.shape, this.tokenizer), threads: engine.pool?.count ?? 1, threadsNote: engine.threadsNote,
    };
    /** What the last `generate` did; see generate.js. */
    this.stats = null;
  }

  // ---- forward pass ----

  get position() {
    return this.engine.call("rq_model_position", this._memory);
  }

  /** Forgets all tokens from `position` on. */
  truncate(position) {
    this.engine.call("rq_model_truncate", this._memory, position);
  }

  /** Forgets all tokens. */
  reset() {
    this._history = [];
    this.truncate(0);
  }

  /** Queues a prompt behind what the cache shares with it. @param {number[]} ids @returns {number} how many that is */
  beginText(ids) {
    const known = this._history.slice(0, this.position);
    let shared = 0;
    if (!this._hashing) { // hashes are of all tokens from the beginning
      const limit = Math.min(known.length, ids.length - 1); // the last token is computed for its logits
      while (shared < limit && known[shared] === ids[shared]) shared += 1;
    }
    this.truncate(shared);
    this._history = [...ids];
    this.feed(ids.slice(shared));
    return shared;
  }

  /** Queues one more token of the text. @param {number} id */
  append(id) {
    this._history.push(id);
    this.feed([id]);
  }

  /** Queues token ids. @param {ArrayLike<number>} ids @throws {ContextFullError} */
  feed(ids) {
    const { engine } = this;
    const data = Int32Array.from(ids);
    engine.withMemory(data.byteLength, (address) => {
      engine.write(address, new Uint8Array(data.buffer));
      engine.call("rq_model_feed", this._memory, address, data.length);
    });
  }

  /** Computes up to one batch of the queued tokens. @returns {number} how many still wait */
  step() {
    return this.engine.call("rq_model_step", this._memory);
  }

  /** Logits after the last token, a copy. @returns {Float32Array} (vocab_size) */
  logits() {
    const count = this.shape.vocab_size;
    return new Float32Array(this.engine.read(this._lastLogits(), count * 4).buffer, 0, count);
  }

  _lastLogits() {
    const rows = this.engine.call("rq_model_logits_rows", this._memory);
    if (rows < 1) throw new UsageError("there are no logits yet", { hint: "feed tokens and step first" });
    return this.engine.call("rq_model_logits", this._memory) + (rows - 1) * this.shape.vocab_size * 4;
  }

  /** Hashes after the embedding, after each layer and of the logits. @returns {Uint32Array} (layers + 2) */
  hashes() {
    if (!this._hashing) throw new UsageError("this model keeps no hashes", { hint: "open it with {hashes: true}" });
    const address = this.engine.call("rq_model_hashes", this._memory);
    return new Uint32Array(this.engine.read(address, (this.shape.layers + 2) * 4).buffer);
  }

  /**
   * Computes with a LoRA adapter from now on, beside those that are there; forgets all tokens.
   * @param {BufferSource} source @param {{scale?: number, verify?: boolean}} [options] @returns {LocalAdapter}
   */
  loadAdapter(source, { scale = 1, verify } = {}) {
    const adapter = loadBytes(new AdapterLoader(this, { verify }), [source], LocalAdapter);
    try {
      adapter.setScale(scale);
    } catch (error) {
      adapter.dispose();
      throw error;
    }
    return adapter;
  }

  /** @param {LocalAdapter} [adapter] default: all of them */
  unloadAdapter(adapter) {
    for (const one of adapter ? [adapter] : [...this.adapters]) one.dispose();
  }

  // ---- sampling ----

  /** @param {ReturnType<typeof import("./sampling.js").checkOptions>["sampling"]} options */
  startSampler(options) {
    this._sampler.start(options);
  }

  /** Draws a token from the last logits. @returns {number} its id */
  sample() {
    return this._sampler.sample(this._lastLogits(), this._history);
  }

  /** Natural logarithm of the probability of `token`, before biases and penalties. @returns {number} */
  logprob(token) {
    return this._sampler.logprob(this._lastLogits(), token);
  }

  /** The `count` likeliest tokens with their log-probabilities, the best first. @returns {[number, number][]} */
  topLogprobs(count) {
    return this._sampler.topLogprobs(this._lastLogits(), count);
  }

  // ---- embeddings ----

  /**
   * Computes a text's embedding: the mean of the last states over its tokens. Yields after every step.
   * @param {string} text @param {{normalize?: boolean}} [options] to length 1; default true
   * @returns {Generator<{done: number, total: number}, Float32Array>} (width)
   */
  *embed(text, { normalize = true } = {}) {
    const { engine, _memory: memory } = this;
    const ids = promptTokens(this.tokenizer, text);
    this.reset();
    engine.call("rq_model_keep_states", memory, 1);
    try {
      this.feed(ids);
      for (let waiting = ids.length; waiting > 0; ) {
        waiting = this.step();
        yield { done: ids.length - waiting, total: ids.length };
      }
      const bytes = this.shape.width * 4;
      return engine.withMemory(bytes, (out) => {
        engine.call("rq_model_embedding", memory, normalize ? 1 : 0, out);
        return new Float32Array(engine.read(out, bytes).buffer);
      });
    } finally {
      if (this._memory) {
        engine.call("rq_model_keep_states", memory, 0);
        this.reset();
      }
    }
  }

  // ---- text ----

  /** See generate.js. */
  generate(prompt, options) {
    return generate(this, prompt, options);
  }

  /** @param {string} text @param {{special?: boolean, parseSpecial?: boolean}} [options] @returns {number[]} */
  tokenize(text, options) {
    return this.tokenizer.encode(text, options);
  }

  /** @param {ArrayLike<number>} ids @param {{special?: boolean}} [options] @returns {string} */
  detokenize(ids, options) {
    return this.tokenizer.decode(ids, options);
  }

  /** Gives all of its memory back to the engine. May be called twice. */
  dispose() {
    if (!this._memory) return;
    this.unloadAdapter();
    this.tokenizer.dispose();
    this._sampler.dispose();
    this.engine.free(this._memory);
    this.file.dispose();
    this._memory = 0;
  }
}

/** @param {ModelLoader} loader @param {BufferSource[]} sources @param {any} Made the class of what is loaded */
function loadBytes(loader, sources, Made) {
  try {
    for (const bytes of sources.map(bytesOf)) {
      loader.begin(bytes.length);
      loader.write(bytes);
      loader.endFile();
    }
  } catch (error) {
    loader.abandon();
    throw error;
  }
  return finish(loader.end(Made));
}

/** Runs a generator to its end. @template T @param {Generator<unknown, T>} steps @returns {T} */
export function finish(steps) {
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
  }
}
