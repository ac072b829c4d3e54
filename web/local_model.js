// local_model.js: a model in this thread: file, tokenizer, weights in place, KV cache and logits, all in
// engine memory. Synchronous; worker.js drives it for pages, Node uses it directly.
//
//   const engine = await Engine.load(bytesOfRuvqWasm);
//   const model = LocalModel.fromBytes(engine, bytesOfTheGgufFile);
//   for (const step of model.generate("Once upon a time", { maxTokens: 50 })) out += step.text;
import { CONSTANTS as C, STRUCTS } from "./abi.js";
import { bytesOf } from "./engine.js";
import { UsageError, megabytes } from "./errors.js";
import { generate, promptTokens } from "./generate.js";
import { GgufFile, ShardedFile } from "./gguf.js";
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

const SIZE_ERRORS = ["RQ_E_TRUNCATED", "RQ_E_OFFSET"];
const KV_FLAGS = { f16: 0, f32: C.RQ_MODEL_KV_F32 };

/** Fills memory for a model while its file arrives, or its shards one after the other, so that what can't work
 * fails before all of it is here. */
export class ModelLoader {
  /** @param {import("./engine.js").Engine} engine @param {ModelOptions} [options] */
  constructor(engine, options = {}) {
    this.engine = engine;
    this.options = { ...encodeOptions(options), threads: engine.pool?.threads ?? 1 };
    this.verify = options.verify ?? false;
    this._files = []; // complete, with their headers read
    this._file = null;
    this._memory = 0;
    this._clear();
  }

  _clear() {
    this._nextAttempt = 0;
    this._pieces = [];
  }

  /** All shards together are this large: refuses what can't fit. @throws {MemoryLimitError} */
  expect(bytes) {
    this.engine.checkRoom(bytes, `the model files of ${megabytes(bytes)}`);
  }

  /** @param {number | null} bytes size of the file, null when the sender doesn't say */
  begin(bytes) {
    if (bytes !== null) this._file = new GgufFile(this.engine, bytes);
  }

  /** @param {Uint8Array} piece the next bytes of the file; its memory may be used again afterwards */
  write(piece) {
    const file = this._file;
    if (!file) {
      this._pieces.push(piece.slice());
      return;
    }
    file.append(piece);
    if (file.index || file.present < this._nextAttempt) return;
    this._nextAttempt = file.present * 2; // so that all attempts together cost two passes at most
    try {
      this._readHeader();
    } catch (error) {
      // a wrong announcement of the size looks like a wrong file: only the end can tell them apart
      if (!SIZE_ERRORS.includes(error.code)) throw error;
      this._nextAttempt = Infinity;
    }
  }

  /** Forgets what came of the current file: it will come again. */
  restart() {
    this._file?.dispose();
    this._file = null;
    this._freeMemory();
    this._clear();
  }

  /** Checks the header, and reserves the memory that the model will need beside its file. */
  _readHeader() {
    const { _file: file } = this;
    if (file.parse() && file.header.split_count === 1) this._measure(file);
  }

  _measure(file) {
    const { engine } = this;
    this._bytes = withOptions(engine, this.options, (options) =>
      measure(engine, "rq_model_measure", file.index, file.address, options));
    this._memory = engine.alloc(this._bytes, "the KV cache and activations of this model");
  }

  _freeMemory() {
    this.engine.free(this._memory);
    this._memory = 0;
  }

  /** The current file is complete; another may follow. @returns {number} in how many files the model lies */
  endFile() {
    if (!this._file) this._joinPieces();
    const file = this._file;
    file.bytes = file.present; // when less came than announced, the parser says what is missing
    if (!file.index || file.header.file_bytes !== file.bytes) {
      this.engine.free(file.index);
      file.index = 0;
      this._freeMemory();
      this._readHeader();
    }
    this._files.push(file);
    this._file = null;
    this._clear();
    return file.header.split_count;
  }

  /**
   * All files are complete: checks their data, yielding [bytes checked, bytes in all] after each piece of work.
   * @returns {Generator<[number, number], LocalModel>} the model owns all memory from here on
   */
  *end() {
    try {
      if (this._files.length === 0) this.endFile();
      const file = this._joined();
      if (this.verify) yield* file.check();
      const model = new LocalModel(this.engine, file, this._memory, this._bytes, this.options);
      this._files = [];
      this._memory = 0;
      return model;
    } catch (error) {
      this.abandon();
      throw error;
    }
  }

  /** One file, or the index of several. A shard alone is left to the core to refuse. */
  _joined() {
    const shards = this._files;
    if (shards.length === 1 && this._memory) return shards[0];
    if (shards.length > 1) this._files = [new ShardedFile(shards)];
    this._measure(this._files[0]);
    return this._files[0];
  }

  /** Without a known size the pieces waited outside; each is dropped once it is copied. */
  _joinPieces() {
    const bytes = this._pieces.reduce((sum, piece) => sum + piece.length, 0);
    this._file = new GgufFile(this.engine, bytes);
    while (this._pieces.length) this._file.append(this._pieces.shift());
  }

  /** Gives all memory back; the loader can't be used afterwards. */
  abandon() {
    this.restart();
    for (const file of this._files) file.dispose();
    this._files = [];
  }
}

/** A model ready to run. */
export class LocalModel {
  /**
   * @param {import("./engine.js").Engine} engine
   * @param {BufferSource | BufferSource[]} source a file, or all shards of a model in order
   * @param {ModelOptions} [options]
   */
  static fromBytes(engine, source, options) {
    const loader = new ModelLoader(engine, options);
    try {
      for (const bytes of (Array.isArray(source) ? source : [source]).map(bytesOf)) {
        loader.begin(bytes.length);
        loader.write(bytes);
        loader.endFile();
      }
    } catch (error) {
      loader.abandon();
      throw error;
    }
    return finish(loader.end());
  }

  /** Takes over `file` and `memory` only when it succeeds. */
  constructor(engine, file, memory, memoryBytes, options) {
    this.engine = engine;
    this.file = file;
    this.tokenizer = new Tokenizer(engine, file);
    this._scratch = 0;
    this._history = []; // tokens computed or waiting
    this._recent = 0; // tokens that penalties look at
    this._biases = [];
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
      this._scratchBytes = engine.call("rq_sample_scratch", this.shape.vocab_size);
      this._scratch = engine.alloc(this._scratchBytes + STRUCTS.rq_sampler.size + this.shape.vocab_size * 4);
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

  // ---- sampling ----

  get _sampler() {
    return this._scratch + this._scratchBytes;
  }

  /** @param {ReturnType<typeof import("./sampling.js").checkOptions>["sampling"]} options */
  startSampler({ seed, penaltyTokens, logitBias, ...options }) {
    const { engine } = this;
    const low = Number(seed & 0xffffffffn);
    const high = Number((seed >> 32n) & 0xffffffffn);
    const inC = (name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    const fields = Object.entries(options).map(([name, value]) => [inC(name), value]);
    engine.withMemory(STRUCTS.rq_sampling.size, (how) => {
      engine.writeStruct("rq_sampling", how, Object.fromEntries(fields));
      engine.call("rq_sampler_init", this._sampler, low, high, how);
    });
    const { repeatPenalty, presencePenalty, frequencyPenalty } = options;
    this._recent = repeatPenalty === 1 && !presencePenalty && !frequencyPenalty ? 0 : penaltyTokens;
    this._biases = logitBias;
  }

  /** Draws a token from the last logits. @returns {number} its id */
  sample() {
    const { _scratch: scratch, _sampler: sampler } = this;
    const adjusts = this._recent > 0 || this._biases.length > 0;
    const logits = adjusts ? this._adjustedLogits() : this._lastLogits();
    return this.engine.call("rq_sample", sampler, logits, this.shape.vocab_size, scratch, sampler);
  }

  /** Where the last logits lie with biases and penalties. */
  _adjustedLogits() {
    const { engine, _biases: biases } = this;
    const recent = this._recent > 0 ? this._history.slice(-this._recent) : [];
    const out = this._sampler + STRUCTS.rq_sampler.size;
    const [tokenOffset] = STRUCTS.rq_logit_bias.fields.token;
    const [biasOffset] = STRUCTS.rq_logit_bias.fields.bias;
    const stride = STRUCTS.rq_logit_bias.size;
    engine.withMemory(biases.length * stride + recent.length * 4 + 4, (address) => {
      const ids = address + biases.length * stride;
      const { view } = engine;
      biases.forEach(([token, bias], n) => {
        view.setInt32(address + n * stride + tokenOffset, token, true);
        view.setFloat32(address + n * stride + biasOffset, bias, true);
      });
      recent.forEach((token, n) => view.setInt32(ids + n * 4, token, true));
      const from = [this._sampler, this._lastLogits(), this.shape.vocab_size];
      engine.call("rq_adjust_logits", ...from, address, biases.length, ids, recent.length, out);
    });
    return out;
  }

  /** Natural logarithm of the probability of `token`, before biases and penalties. @returns {number} */
  logprob(token) {
    const { engine } = this;
    return engine.withMemory(4, (out) => {
      engine.call("rq_log_probability", this._lastLogits(), this.shape.vocab_size, token, out);
      return engine.view.getFloat32(out, true);
    });
  }

  /** The `count` likeliest tokens with their log-probabilities, the best first. @returns {[number, number][]} */
  topLogprobs(count) {
    const { engine } = this;
    return engine.withMemory(count * 8, (ids) => {
      const out = ids + count * 4;
      engine.call("rq_top_log_probabilities", this._lastLogits(), this.shape.vocab_size, count, ids, out);
      const { view } = engine;
      const entry = (n) => [view.getInt32(ids + n * 4, true), view.getFloat32(out + n * 4, true)];
      return Array.from({ length: count }, (_, n) => entry(n));
    });
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
    this.tokenizer.dispose();
    this.engine.free(this._scratch);
    this.engine.free(this._memory);
    this.file.dispose();
    this._memory = this._scratch = 0;
  }
}

/** Runs a generator to its end. @template T @param {Generator<unknown, T>} steps @returns {T} */
export function finish(steps) {
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
  }
}

/** Runs a measuring function of the core, which writes its result as a uint64. */
export function measure(engine, name, ...args) {
  return engine.withMemory(8, (size) => {
    engine.call(name, ...args, size);
    return Number(engine.view.getBigUint64(size, true));
  });
}

function withOptions(engine, options, body) {
  return engine.withMemory(STRUCTS.rq_model_options.size, (address) => {
    engine.writeStruct("rq_model_options", address, options);
    return body(address);
  });
}

/** @param {ModelOptions} options @returns the fields of rq_model_options */
function encodeOptions({ context = 0, kv = "f16", batch = 0, hashes = false, scalar = false }) {
  if (!(kv in KV_FLAGS)) {
    throw new UsageError("unknown kind of KV cache", { subject: "kv", expected: '"f16" or "f32"', actual: String(kv) });
  }
  for (const [subject, value] of Object.entries({ context, batch })) {
    if (!Number.isInteger(value) || value < 0 || value > 0x7fffffff) {
      throw new UsageError("not a number of tokens", { subject, expected: "a whole number", actual: String(value) });
    }
  }
  const flags = KV_FLAGS[kv] | (hashes ? C.RQ_MODEL_HASHES : 0) | (scalar ? C.RQ_MODEL_SCALAR : 0);
  return { context_tokens: context, batch_tokens: batch, flags };
}

/** What a user wants to know of a model. */
function describe(file, shape, tokenizer) {
  const tensors = file.tensors();
  const bytes = tensors.reduce((sum, t) => sum + t.bytes, 0);
  const weights = tensors.reduce((sum, t) => sum + t.rows * t.width, 0);
  const formats = {}; // format → weights in it
  for (const t of tensors) formats[t.format] = (formats[t.format] ?? 0) + t.rows * t.width;
  return {
    name: file.metadata("general.name") ?? "",
    architecture: file.metadata("general.architecture"),
    parameters: shape.parameters,
    formats,
    bitsPerWeight: (bytes * 8) / weights,
    fileBytes: file.bytes,
    weightBytes: bytes,
    kvBytes: shape.kv_bytes,
    memoryBytes: shape.memory_bytes,
    vocabularySize: shape.vocab_size,
    contextTrained: shape.context_trained,
    context: shape.context_tokens,
    layers: shape.layers,
    width: shape.width,
    heads: shape.heads,
    kvHeads: shape.kv_heads,
    feedForwardWidth: shape.ff_width,
    tokenizer: tokenizer.kind,
  };
}
