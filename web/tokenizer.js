// tokenizer.js: text to token ids and back, by the vocabulary in a GGUF file. All rules live in the core.
import { CONSTANTS as C, STRUCTS } from "./abi.js";
import { UsageError } from "./errors.js";
import { GgufFile } from "./gguf.js";
import { kernels } from "./kernels.js";

const KINDS = { [C.RQ_TOKENIZER_SPM]: "spm", [C.RQ_TOKENIZER_BPE]: "bpe" };
// as rq_tokenize in ruvq.h says: this many ids any text can give
const IDS_PER_BYTE = 4;
const EXTRA_IDS = 5;
const FIRST_TOKEN_BYTES = 256; // most tokens are shorter; the buffer grows where one isn't

const FIRST_BYTES = 1 << 20; // of a file to begin with; doubled until the header is whole

/** A vocabulary. Of a model in this thread; or by itself, from a file's header, with `Tokenizer.fromGguf`. */
export class Tokenizer {
  /**
   * Opens the vocabulary of a GGUF file, which needs no tensors; only the header is read. Await init() first.
   * @param {Blob | BufferSource} source the file @returns {Promise<Tokenizer>} give it back with `dispose`
   * @throws {FileFormatError | TokenizerError | StorageError}
   */
  static async fromGguf(source) {
    const engine = kernels();
    const blob = source instanceof Blob ? source : new Blob([source]);
    for (let wanted = FIRST_BYTES; ; wanted *= 2) {
      const start = new Uint8Array(await blob.slice(0, wanted).arrayBuffer());
      const file = new GgufFile(engine, start.length);
      try {
        file.append(start);
        file.bytes = blob.size;
        if (file.parse()) {
          const tokenizer = new Tokenizer(engine, file);
          tokenizer._file = file;
          return tokenizer;
        }
      } catch (error) {
        file.dispose();
        throw error;
      }
      file.dispose();
    }
  }

  /** @param {import("./engine.js").Engine} engine @param {import("./gguf.js").GgufFile} file indexed; stays in place */
  constructor(engine, file) {
    this.engine = engine;
    this._file = null; // where it is this tokenizer's own
    const bytes = engine.withMemory(8, (size) => {
      engine.call("rq_tokenizer_measure", file.index, file.address, size);
      return Number(engine.view.getBigUint64(size, true));
    });
    this._memory = engine.alloc(bytes, "the vocabulary of this model");
    try {
      engine.call("rq_tokenizer_open", file.index, file.address, this._memory, this._memory + bytes);
      this.info = engine.withMemory(STRUCTS.rq_tokenizer_info.size, (info) => {
        engine.call("rq_tokenizer_describe", this._memory, info);
        return engine.readStruct("rq_tokenizer_info", info);
      });
      this._piece = engine.alloc(FIRST_TOKEN_BYTES);
      this._pieceBytes = FIRST_TOKEN_BYTES;
    } catch (error) {
      engine.free(this._memory);
      throw error;
    }
    this.kind = KINDS[this.info.kind];
  }

  /** Ends a text: end of sequence, end of turn. @param {number} id */
  isEnd(id) {
    return id >= 0 && (id === this.info.eos || id === this.info.eot);
  }

  /**
   * @param {string} text
   * @param {{special?: boolean, parseSpecial?: boolean}} [options] `special`: add beginning (and end) of
   *   sequence as the file says; `parseSpecial`: special tokens written out in the text become their ids
   * @returns {number[]}
   */
  encode(text, { special = false, parseSpecial = false } = {}) {
    if (typeof text !== "string") {
      throw new UsageError("only text can be tokenized", { expected: "a string", actual: typeof text });
    }
    const flags = (special ? C.RQ_TOKENIZE_SPECIAL : 0) | (parseSpecial ? C.RQ_TOKENIZE_PARSE_SPECIAL : 0);
    const { engine } = this;
    return engine.withText(text, (address, bytes) => {
      const capacity = IDS_PER_BYTE * bytes + EXTRA_IDS;
      const scratchBytes = engine.call("rq_tokenize_scratch", bytes);
      return engine.withMemory(capacity * 4, (ids) =>
        engine.withMemory(scratchBytes, (scratch) => {
          const end = scratch + scratchBytes;
          const count = engine.call("rq_tokenize", this._memory, address, bytes, flags, ids, capacity, scratch, end);
          return Array.from({ length: count }, (_, i) => engine.view.getInt32(ids + i * 4, true));
        }));
    });
  }

  /** The bytes of one token in running text; characters may be split between tokens. @returns {Uint8Array} */
  bytesOf(id, special = false) {
    const { engine } = this;
    for (;;) {
      const count = engine.exports.rq_detokenize(0, this._memory, id, special ? 1 : 0, this._piece, this._pieceBytes);
      if (count >= 0) return engine.read(this._piece, count);
      if (count !== C.RQ_E_MEMORY || this._pieceBytes > C.RQ_MAX_STRING_BYTES) {
        engine.call("rq_detokenize", this._memory, id, special ? 1 : 0, this._piece, this._pieceBytes); // raises
      }
      engine.free(this._piece);
      this._piece = engine.alloc((this._pieceBytes *= 4));
    }
  }

  /** @param {ArrayLike<number>} ids @param {{special?: boolean}} [options] @returns {string} */
  decode(ids, { special = false } = {}) {
    const decoder = new TextDecoderOfTokens(this, special);
    return Array.from(ids, (id) => decoder.push(id)).join("") + decoder.flush();
  }

  dispose() {
    this.engine.free(this._piece);
    this.engine.free(this._memory);
    this._file?.dispose();
    this._piece = this._memory = 0;
    this._file = null;
  }
}

/** Joins the bytes of tokens to text: characters split between tokens wait until they are whole, and the
 * space that some vocabularies put before a text is dropped at its beginning. */
export class TextDecoderOfTokens {
  /** @param {Tokenizer} tokenizer @param {boolean} [special] show special tokens @param {boolean} [atStart] */
  constructor(tokenizer, special = false, atStart = true) {
    this.tokenizer = tokenizer;
    this.special = special;
    this._dropSpace = atStart && tokenizer.info.add_space_prefix === 1;
    this._decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  }

  /** @param {number} id @returns {string} the text that is whole now */
  push(id) {
    let bytes = this.tokenizer.bytesOf(id, this.special);
    if (this._dropSpace && bytes.length > 0) {
      if (bytes[0] === 0x20) bytes = bytes.subarray(1);
      this._dropSpace = false;
    }
    return this._decoder.decode(bytes, { stream: true });
  }

  /** What is left of an unfinished character, as U+FFFD. */
  flush() {
    return this._decoder.decode();
  }
}
