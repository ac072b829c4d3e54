// gguf.js: a GGUF file that lies in engine memory, indexed by the core's validating parser. Reads metadata
// and tensor infos through that index; never parses a byte of its own.
import { CONSTANTS as C, STRUCTS } from "./abi.js";
import { cString } from "./engine.js";
import { megabytes } from "./errors.js";

const GROWTH = 1.5;

const SCALAR_TYPE = {
  [C.RQ_KV_F32]: (view, at) => view.getFloat32(at, true),
  [C.RQ_KV_F64]: (view, at) => view.getFloat64(at, true),
  [C.RQ_KV_U8]: (view, at) => view.getUint8(at),
  [C.RQ_KV_I8]: (view, at) => view.getInt8(at),
  [C.RQ_KV_U16]: (view, at) => view.getUint16(at, true),
  [C.RQ_KV_I16]: (view, at) => view.getInt16(at, true),
  [C.RQ_KV_U32]: (view, at) => view.getUint32(at, true),
  [C.RQ_KV_I32]: (view, at) => view.getInt32(at, true),
  [C.RQ_KV_U64]: (view, at) => Number(view.getBigUint64(at, true)),
  [C.RQ_KV_I64]: (view, at) => Number(view.getBigInt64(at, true)),
  [C.RQ_KV_BOOL]: (view, at) => view.getUint8(at) !== 0,
};

/** What an index says: the part that files and shards have in common. Offsets count from `address`. */
class IndexedFile {
  /** @param {import("./engine.js").Engine} engine @param {number} bytes of the whole file */
  constructor(engine, bytes) {
    this.engine = engine;
    this.bytes = bytes;
    this.index = 0;
    this.address = 0;
  }

  /**
   * A metadata value: number, boolean or string; arrays give {count, elementType}.
   * @param {string} key @returns {unknown} undefined when the file hasn't got it
   */
  metadata(key) {
    const { engine } = this;
    const position = engine.withText(key, (text, length) =>
      engine.exports.rq_gguf_find_key(this.index, this.address, text, length));
    return position < 0 ? undefined : this._value(position);
  }

  _value(position) {
    const { engine, address } = this;
    const at = this.index + this.header.kv_start + position * STRUCTS.rq_gguf_kv.size;
    const kv = engine.readStruct("rq_gguf_kv", at);
    if (kv.type === C.RQ_KV_STRING) return engine.readText(address + kv.value_offset, kv.value_bytes);
    if (kv.type === C.RQ_KV_ARRAY) return { count: kv.count, elementType: kv.element_type };
    return SCALAR_TYPE[kv.type](engine.view, address + kv.value_offset);
  }

  /**
   * An array of texts or of 32-bit integers. @param {string} key
   * @returns {string[] | Int32Array | undefined} undefined when the file hasn't got such an array
   */
  array(key) {
    const { engine } = this;
    const position = engine.withText(key, (text, length) =>
      engine.exports.rq_gguf_find_key(this.index, this.address, text, length));
    if (position < 0) return undefined;
    const at = this.index + this.header.kv_start + position * STRUCTS.rq_gguf_kv.size;
    const kv = engine.readStruct("rq_gguf_kv", at);
    const start = this.address + kv.value_offset;
    if (kv.type !== C.RQ_KV_ARRAY) return undefined;
    if (kv.element_type === C.RQ_KV_I32 || kv.element_type === C.RQ_KV_U32) {
      return Int32Array.from({ length: kv.count }, (_, i) => engine.view.getInt32(start + 4 * i, true));
    }
    if (kv.element_type !== C.RQ_KV_STRING) return undefined;
    const texts = [];
    for (let place = start; texts.length < kv.count; ) { // validated by the parser
      const bytes = Number(engine.view.getBigUint64(place, true));
      texts.push(engine.readText(place + 8, bytes));
      place += 8 + bytes;
    }
    return texts;
  }

  /** @returns {string[]} all keys, in the order of the file */
  metadataKeys() {
    const { engine, address } = this;
    return Array.from({ length: this.header.kv_count }, (_, n) => {
      const kv = engine.readStruct("rq_gguf_kv", this.index + this.header.kv_start + n * STRUCTS.rq_gguf_kv.size);
      return engine.readText(address + kv.key_offset, kv.key_bytes);
    });
  }

  /** Name, format, shape and size of every tensor. */
  tensors() {
    const { engine, address } = this;
    const size = STRUCTS.rq_gguf_tensor.size;
    return Array.from({ length: this.header.tensor_count }, (_, i) => {
      const tensor = engine.readStruct("rq_gguf_tensor", this.index + this.header.tensor_start + i * size);
      return {
        name: engine.readText(address + tensor.name_offset, tensor.name_bytes),
        format: formatName(engine, tensor.format) ?? `ggml type ${tensor.ggml_type}`,
        rows: tensor.rows,
        width: tensor.width,
        bytes: tensor.data_bytes,
      };
    });
  }

  /**
   * Checks the data of every tensor, yielding [bytes checked, bytes in all] after each short piece of work.
   * @throws {DataError | IntegrityError}
   */
  *check() {
    const { engine, address, index } = this;
    engine.call("rq_gguf_check_header", index, address);
    const sizes = this.tensors().map((tensor) => tensor.bytes);
    const total = sizes.reduce((sum, bytes) => sum + bytes, 0);
    const cursor = engine.alloc(STRUCTS.rq_gguf_check.size);
    try {
      for (let i = 0, checked = 0; i < sizes.length; i += 1) {
        engine.bytes.fill(0, cursor, cursor + STRUCTS.rq_gguf_check.size);
        while (engine.call("rq_gguf_check_step", index, address, i, cursor) === C.RQ_MORE) yield [checked, total];
        checked += sizes[i];
        yield [checked, total];
      }
    } finally {
      engine.free(cursor);
    }
  }
}

/** A file of `bytes` bytes at `address`, of which the first `present` are there. Owns that memory. */
export class GgufFile extends IndexedFile {
  constructor(engine, bytes) {
    super(engine, bytes);
    this.present = 0;
    this.address = engine.alloc(bytes, `the model file of ${megabytes(bytes)}`);
  }

  /** Appends the next piece of the file; moves it where its size was announced too small. @param {Uint8Array} piece */
  append(piece) {
    if (this.present + piece.length > this.bytes) this._grow(this.present + piece.length);
    this.engine.write(this.address + this.present, piece);
    this.present += piece.length;
  }

  _grow(needed) {
    const bytes = Math.ceil(needed * GROWTH);
    const address = this.engine.alloc(bytes, `the model file of ${megabytes(needed)} or more`);
    this.engine.bytes.copyWithin(address, this.address, this.address + this.present);
    this.engine.free(this.address);
    Object.assign(this, { address, bytes });
  }

  /** Validates and indexes the header. @returns {boolean} false: it is not all there yet */
  parse() {
    const { engine, address } = this;
    const extent = [address, address + this.present, address + this.bytes];
    const need = engine.withMemory(8, (size) => {
      const more = engine.call("rq_gguf_index_bytes", ...extent, size) === C.RQ_MORE;
      return more ? 0 : Number(engine.view.getBigUint64(size, true));
    });
    if (need === 0) return false;
    const index = engine.alloc(need, "the index of the model file");
    try {
      if (engine.call("rq_gguf_parse", ...extent, index, index + need) === C.RQ_MORE) return false;
      this.index = index;
      this.header = engine.readStruct("rq_gguf", index);
      return true;
    } finally {
      if (this.index === 0) engine.free(index);
    }
  }

  dispose() {
    this.engine.free(this.index);
    this.engine.free(this.address);
    this.index = this.address = 0;
  }
}

/** The shards of one model, in order. Owns them once it is made. */
export class ShardedFile extends IndexedFile {
  /** @param {GgufFile[]} files parsed @throws {FileFormatError} some are missing, out of order or foreign */
  constructor(files) {
    const [first] = files;
    super(first.engine, files.reduce((sum, file) => sum + file.bytes, 0));
    const { engine } = this;
    this.address = Math.min(...files.map((file) => file.address));
    const need = engine.withMemory(8, (size) => {
      engine.call("rq_gguf_join_bytes", first.index, size);
      return Number(engine.view.getBigUint64(size, true));
    });
    const index = engine.alloc(need, "the index of the model's files");
    try {
      engine.call("rq_gguf_join_begin", this.address, first.index, first.address, index, index + need);
      for (const file of files) engine.call("rq_gguf_join_add", this.address, file.index, file.address, index);
      engine.call("rq_gguf_join_end", this.address, index);
    } catch (error) {
      engine.free(index);
      throw error;
    }
    this.index = index;
    this.header = engine.readStruct("rq_gguf", index);
    this._files = files;
  }

  dispose() {
    this.engine.free(this.index);
    for (const file of this._files) file.dispose();
    this._files = [];
    this.index = this.address = 0;
  }
}

/** Name of a format of RQ_FORMAT_*, undefined for RQ_FORMAT_NONE. */
function formatName(engine, format) {
  if (format < 0) return undefined;
  return engine.withMemory(STRUCTS.rq_format_info.size, (info) => {
    engine.call("rq_format_describe", format, info);
    return cString(engine.readStruct("rq_format_info", info).name);
  });
}
