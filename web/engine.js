// engine.js: the thin binding to ruvq.wasm. Instantiates the module, hands out its memory, reads and writes
// C structs by the generated offsets, and turns negative return codes into typed errors. Synchronous after
// loading and without dependencies: the same file runs in workers, pages, Node and under Pyodide.
import { CONSTANTS, FUNCTIONS, STRUCTS } from "./abi.js";
import { AbortError, DownloadError, MemoryLimitError, UnsupportedError, UsageError, VersionError } from "./errors.js";
import { describeStart, errorFromCode, megabytes } from "./errors.js";
import { FEATURES } from "./features.js";
import { loadFirst } from "./variants.js";

const WASM_MAGIC = [0x00, 0x61, 0x73, 0x6d]; // "\0asm"
const TO_UTF8 = new TextEncoder();
const FROM_UTF8 = new TextDecoder("utf-8");

/** Readers by abi.js's names of scalar types; 64-bit integers become numbers (exact below 2^53). */
const READ = {
  u1: (view, at) => view.getUint8(at),
  i4: (view, at) => view.getInt32(at, true),
  u4: (view, at) => view.getUint32(at, true),
  i8: (view, at) => Number(view.getBigInt64(at, true)),
  u8: (view, at) => Number(view.getBigUint64(at, true)),
  f4: (view, at) => view.getFloat32(at, true),
  f8: (view, at) => view.getFloat64(at, true),
};
const WRITE = {
  i4: (view, at, value) => view.setInt32(at, value, true),
  u4: (view, at, value) => view.setUint32(at, value, true),
  f4: (view, at, value) => view.setFloat32(at, value, true),
};

// A shared memory is reserved whole when it is made; a device that can't reserve 4 GiB may still have less.
const SHARED_PAGES = [65536, 32768, 16384, 8192, 4096];
const INITIAL_PAGES = 32; // as build/core.mk links it
const PAGE = 65536;

/** One instance of ruvq.wasm with its own memory. Belongs to one thread; see threads.js for helpers. */
export class Engine {
  /**
   * Loads the module and runs its self-test.
   * @param {string | URL | BufferSource | WebAssembly.Module | Record<string, string>} source where ruvq.wasm is
   *   (its other builds are looked for beside it), its bytes, the compiled module, or addresses by variant
   * @param {{signal?: AbortSignal, shared?: boolean}} [options] `shared`: `source` is ruvq-threads.wasm
   * @returns {Promise<Engine>}
   * @throws {UnsupportedError} without WebAssembly SIMD
   * @throws {DownloadError} `source` is not a WebAssembly module
   * @throws {VersionError} the module is of another release
   */
  static async load(source, { signal, shared = false } = {}) {
    if (!FEATURES.simd()) {
      throw new UnsupportedError("this host can't run ruvq", {
        subject: "WebAssembly SIMD",
        expected: "128-bit WebAssembly SIMD",
        actual: FEATURES.wasm() ? "WebAssembly without SIMD" : "no WebAssembly",
        hint: "use a browser from 2023 or later, or Node 18 or later",
      });
    }
    return loadFirst(source, async (from, name) => {
      const module = from instanceof WebAssembly.Module ? from : await compile(from, signal);
      const engine = Engine.fromModule(module, shared ? sharedMemory() : null);
      engine.variant = name;
      return engine;
    }, signal);
  }

  /**
   * The synchronous part of `load`, for a host that has compiled the module.
   * @param {WebAssembly.Module} module @param {{memory: WebAssembly.Memory, limit: number} | null} [shared]
   */
  static fromModule(module, shared = null) {
    const engine = new Engine(module, shared);
    engine.call("rq_self_test");
    return engine;
  }

  constructor(module, shared) {
    this.module = module;
    const env = { memory: shared?.memory, now: () => performance.now() }; // the clock: of `make profile` only
    this.exports = new WebAssembly.Instance(module, { env }).exports;
    /** @type {WebAssembly.Memory} */ this.memory = shared ? shared.memory : this.exports.memory;
    /** How large the memory can grow, in bytes. */
    this.limitBytes = shared ? shared.limit : SHARED_PAGES[0] * PAGE;
    /** @type {import("./threads.js").Pool | null} threads that help */
    this.pool = null;
    /** Why there are none, or "". */
    this.threadsNote = "";
    /** Which build runs: "relaxed-simd", "simd128", or "given" when the host chose. */
    this.variant = "given";
    const version = this.exports.rq_abi_version?.();
    if (version !== CONSTANTS.RQ_ABI_VERSION) {
      throw new VersionError("the engine module does not belong to these scripts", {
        subject: "ruvq.wasm",
        expected: `interface version ${CONSTANTS.RQ_ABI_VERSION}`,
        actual: version === undefined ? "another WebAssembly module" : `interface version ${version}`,
        hint: "serve ruvq.wasm and the scripts of one release, and clear the browser's cache",
      });
    }
    this._view = new DataView(this.memory.buffer);
    this._error = this.alloc(STRUCTS.rq_error.size);
  }

  // ---- memory ----

  /** All of the engine's memory. Take it anew after any call: memory may have grown. @returns {Uint8Array} */
  get bytes() {
    return new Uint8Array(this.memory.buffer);
  }

  /** @returns {DataView} over all of the memory, renewed after growth */
  get view() {
    if (this._view.buffer !== this.memory.buffer) this._view = new DataView(this.memory.buffer);
    return this._view;
  }

  /** Threads that compute, this one included. */
  get threads() {
    return this.pool?.count ?? 1;
  }

  /** Bytes that this instance holds from the host; WebAssembly memory never shrinks. */
  get memoryBytes() {
    return this.memory.buffer.byteLength;
  }

  /**
   * @param {number} bytes
   * @param {string} [purpose] for the message when there is no room
   * @returns {number} address, 64-byte aligned
   * @throws {MemoryLimitError}
   */
  alloc(bytes, purpose = "working memory") {
    const address = bytes <= 0xffffffff ? this.exports.rq_alloc(bytes) >>> 0 : 0;
    if (address === 0) throw this._noRoom(bytes, purpose);
    return address;
  }

  /**
   * Keeps the memory below `bytes` from now on.
   * @param {number} bytes @throws {MemoryLimitError} it takes more already
   */
  limit(bytes) {
    this.limitBytes = Math.min(this.limitBytes, bytes);
    if ((this.exports.rq_limit_memory(Math.min(bytes, 0xffffffff)) >>> 0) > bytes) throw this._noRoom(0, "the engine");
  }

  /** Whether `bytes` more can fit at all, before anything is fetched. @throws {MemoryLimitError} */
  checkRoom(bytes, purpose) {
    if (bytes > this.limitBytes) throw this._noRoom(bytes, purpose);
  }

  _noRoom(bytes, purpose) {
    return new MemoryLimitError(`not enough memory for ${purpose}`, {
      subject: purpose,
      expected: `room for ${megabytes(bytes)}`,
      actual: `an engine that holds ${megabytes(this.memoryBytes)} and can't grow so far; its limit is ${
        megabytes(this.limitBytes)}`,
      hint: "use a smaller model, fewer bits per weight or a shorter context, or close other tabs",
    });
  }

  /** @param {number} address from alloc, or 0 */
  free(address) {
    if (address) this.exports.rq_free(address);
  }

  /** Runs `body(address)` with memory that is given back afterwards. */
  withMemory(bytes, body) {
    const address = this.alloc(bytes);
    try {
      return body(address);
    } finally {
      this.free(address);
    }
  }

  /** Runs `body(address, bytes)` with the text as UTF-8 in memory. */
  withText(text, body) {
    const data = TO_UTF8.encode(text);
    return this.withMemory(data.length, (address) => {
      this.write(address, data);
      return body(address, data.length);
    });
  }

  /** A copy of `count` bytes. @returns {Uint8Array} */
  read(address, count) {
    return new Uint8Array(this.memory.buffer, address, count).slice();
  }

  /** @param {number} address @param {Uint8Array} data */
  write(address, data) {
    new Uint8Array(this.memory.buffer, address, data.length).set(data);
  }

  /** UTF-8 text of a known length. */
  readText(address, count) {
    return FROM_UTF8.decode(this.read(address, count));
  }

  // ---- structs ----

  /** All fields of the struct at `address`: numbers, number arrays, and Uint8Array for byte arrays. */
  readStruct(name, address) {
    const entries = Object.entries(STRUCTS[name].fields);
    return Object.fromEntries(entries.map(([f, layout]) => [f, this._readField(address, layout)]));
  }

  /** Writes the given scalar fields; the others stay as they are. */
  writeStruct(name, address, values) {
    for (const [field, value] of Object.entries(values)) {
      const [offset, type] = STRUCTS[name].fields[field];
      WRITE[type](this.view, address + offset, value);
    }
  }

  _readField(address, [offset, type, count]) {
    const at = address + offset;
    if (type in STRUCTS) return this.readStruct(type, at);
    if (count === 1) return READ[type](this.view, at);
    if (type === "u1") return this.read(at, count);
    return Array.from({ length: count }, (_, i) => READ[type](this.view, at + i * Number(type[1])));
  }

  // ---- calls ----

  /**
   * Calls a function of ruvq.h. An `rq_error *` as first argument is passed here, not by the caller; addresses
   * come back as numbers from 0 to 2^32 - 1.
   * @param {string} name @param {...number} args @returns {number}
   * @throws {RuvqError} of the class that belongs to the code, when the result is negative
   */
  call(name, ...args) {
    const [result, letters] = FUNCTIONS[name];
    const detailed = letters.startsWith("e");
    const value = detailed ? this.exports[name](this._error, ...args) : this.exports[name](...args);
    if (result === "p") return value >>> 0;
    if (result === "i" && value < 0) throw errorFromCode(value, detailed ? this._details(value) : { subject: name });
    return value;
  }

  /** What the core wrote about the failure `code`. */
  _details(code) {
    const error = this.readStruct("rq_error", this._error);
    if (error.code !== code) return {};
    const { subject, expected, actual, hint } = error;
    return { subject: cString(subject), expected: cString(expected), actual: cString(actual), hint: cString(hint) };
  }
}

/** Text up to the first NUL. @param {Uint8Array} bytes */
export function cString(bytes) {
  const end = bytes.indexOf(0);
  return FROM_UTF8.decode(end < 0 ? bytes : bytes.subarray(0, end));
}

// ---- loading the module ----

/** As much as this device lets a page reserve. */
function sharedMemory() {
  for (const maximum of SHARED_PAGES) {
    try {
      const memory = new WebAssembly.Memory({ initial: INITIAL_PAGES, maximum, shared: true });
      return { memory, limit: maximum * PAGE };
    } catch {
      // not so much: try less
    }
  }
  throw new MemoryLimitError("no memory that threads can share", {
    expected: `${megabytes(SHARED_PAGES.at(-1) * PAGE)} of address space`,
    hint: "close other tabs",
  });
}

async function compile(source, signal) {
  const remote = typeof source === "string" || source instanceof URL;
  const bytes = remote ? await fetchModule(source, signal) : bytesOf(source);
  if (!WASM_MAGIC.every((byte, i) => bytes[i] === byte)) {
    throw new DownloadError("this is not a WebAssembly module", {
      subject: remote ? String(source) : "engine module",
      expected: "ruvq.wasm",
      actual: describeStart(bytes),
      hint: "check the address of ruvq.wasm; some servers answer with an error page and status 200",
    });
  }
  return WebAssembly.compile(bytes);
}

async function fetchModule(url, signal) {
  let response;
  try {
    response = await fetch(url, { signal });
  } catch (error) {
    if (signal?.aborted) throw new AbortError();
    throw moduleError(url, `no answer (${error.message})`);
  }
  if (!response.ok) throw moduleError(url, `status ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

function moduleError(url, actual) {
  return new DownloadError("the engine module could not be fetched", {
    subject: String(url),
    expected: "ruvq.wasm with status 200",
    actual,
    hint: "serve ruvq.wasm beside ruvq.js, or pass its address as wasmURL",
  });
}

/** @param {BufferSource} source @returns {Uint8Array} the same memory */
export function bytesOf(source) {
  if (source instanceof Uint8Array) return source;
  if (ArrayBuffer.isView(source)) return new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
  if (Object.prototype.toString.call(source).includes("ArrayBuffer")) return new Uint8Array(source);
  throw new UsageError("this can't be read as bytes", {
    expected: "an ArrayBuffer or a view of one",
    actual: source === null ? "null" : (source?.constructor?.name ?? typeof source),
  });
}
