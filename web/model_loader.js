// model_loader.js: brings a model's files into engine memory, piece by piece as they come.
import { megabytes } from "./errors.js";
import { GgufFile, ShardedFile } from "./gguf.js";
import { encodeOptions, withOptions } from "./model_options.js";

const SIZE_ERRORS = ["RQ_E_TRUNCATED", "RQ_E_OFFSET"];

/** Fills memory for a model while its file arrives, or its shards one after the other, so that what can't work
 * fails before all of it is here. */
export class ModelLoader {
  /** @param {import("./engine.js").Engine} engine @param {import("./local_model.js").ModelOptions} [options] */
  constructor(engine, options = {}) {
    this.engine = engine;
    this.options = { ...encodeOptions(options), threads: engine.pool?.threads ?? 1 };
    this.verify = options.verify ?? false;
    this._files = []; // complete, with their headers read
    this._file = null;
    this._memory = 0;
    this._purpose = "the KV cache and activations of this model";
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
    this._bytes = this._needed(file);
    this._memory = this.engine.alloc(this._bytes, this._purpose);
  }

  _needed(file) {
    return withOptions(this.engine, this.options, (options) =>
      measure(this.engine, "rq_model_measure", file.index, file.address, options));
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
   * @param {typeof import("./local_model.js").LocalModel} Model
   * @returns {Generator<[number, number], import("./local_model.js").LocalModel>} it owns all memory from here on
   */
  *end(Model) {
    try {
      if (this._files.length === 0) this.endFile();
      const file = this._joined();
      if (this.verify) yield* file.check();
      const model = new Model(this.engine, file, this._memory, this._bytes, this.options);
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

/** Runs a measuring function of the core, which writes its result as a uint64. */
export function measure(engine, name, ...args) {
  return engine.withMemory(8, (size) => {
    engine.call(name, ...args, size);
    return Number(engine.view.getBigUint64(size, true));
  });
}
