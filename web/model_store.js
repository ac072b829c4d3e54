// model_store.js: the model files that a storage keeps, by the address they came from. A file under its final name
// is complete and was checked; what is on its way has another name, and a note beside it says what it will be.
//
//   <key>.gguf  a complete file      <key>.part  the beginning of one      <key>.json  the note about either
import { RuvqError, StorageError } from "./errors.js";
import { MemoryStorage, OpfsStorage, freeBytes, quotaError, storageError } from "./storage.js";

const FILE = ".gguf";
const PART = ".part";
const NOTE = ".json";
const BLOCK_BYTES = 1 << 18; // handed to the storage at once

/**
 * What is known of a kept file.
 * @typedef {object} Note
 * @property {string} url
 * @property {number | null} bytes of the whole file
 * @property {import("./download.js").Validator | null} validator of the server's version
 * @property {string} sha256 of the file, once it is complete
 * @property {boolean} verified it was compared with a digest from elsewhere, or with those inside it
 * @property {string} saved when, as ISO 8601
 */
/**
 * @typedef {object} StoredModel
 * @property {string} url @property {number} bytes that are kept @property {number | null} total of the whole file
 * @property {boolean} complete @property {string} sha256 "" while it isn't @property {boolean} verified
 * @property {string} saved
 */

/** A storage for this host: the one given, OPFS, or memory with a `notice` that says why.
 * @param {import("./storage.js").ModelStorage} [given] @param {() => import("./storage.js").ModelStorage} [inMemory] */
export async function openStore(given, inMemory = pageMemory) {
  if (given) return new ModelStore(given);
  try {
    return new ModelStore(await OpfsStorage.open());
  } catch (error) {
    const notice = "this window keeps no files (private browsing, or a browser without a private file system), so "
      + `models are kept in memory until the page is closed: ${error.message ?? error}`;
    return new ModelStore(inMemory(), notice);
  }
}

let memory;
/** One for the page. */
export function pageMemory() {
  return (memory ??= new MemoryStorage());
}

export class ModelStore {
  /** @param {import("./storage.js").ModelStorage} storage @param {string} [notice] */
  constructor(storage, notice = "") {
    this.storage = storage;
    /** Why models aren't kept for good, or "". */
    this.notice = notice;
  }

  /** "opfs", "memory" or the name of a storage that the page brought. */
  get kind() {
    return this.storage.name;
  }

  async _call(method, name, ...args) {
    try {
      return await this.storage[method](name, ...args);
    } catch (error) {
      throw error instanceof RuvqError ? error : storageError(error, this.storage, name ?? "");
    }
  }

  /** @returns {Promise<StoredModel[]>} all models, the unfinished ones too */
  async list() {
    const files = new Map((await this._call("list")).map(({ name, bytes }) => [name, bytes]));
    const models = [];
    for (const name of files.keys()) {
      if (!name.endsWith(NOTE)) continue;
      const key = name.slice(0, -NOTE.length);
      const note = await this._note(key);
      const complete = files.has(key + FILE);
      if (note === null || !(complete || files.has(key + PART))) continue;
      const bytes = files.get(key + (complete ? FILE : PART));
      models.push({
        url: note.url, bytes, total: note.bytes, complete, sha256: complete ? note.sha256 : "",
        verified: complete && note.verified, saved: note.saved,
      });
    }
    return models.sort((a, b) => (a.saved < b.saved ? 1 : -1));
  }

  /** Bytes that models take here, and that may still be kept (null: unknown). */
  async estimate() {
    const used = (await this._call("list")).reduce((sum, file) => sum + file.bytes, 0);
    return { used, free: await this._free(used) };
  }

  async _free(used) {
    if (this.kind === "opfs") return freeBytes();
    const limit = this.storage.limitBytes;
    if (!Number.isFinite(limit)) return null;
    return limit - (used ?? (await this._call("list")).reduce((sum, file) => sum + file.bytes, 0));
  }

  /** Deletes what is kept of `url`; nothing happens when that is nothing.
   * @param {string} url @param {{signal?: AbortSignal}} [options] */
  async delete(url, { signal } = {}) {
    const release = await this.lock(url, { signal });
    try {
      await this._remove(keyOf(url));
    } finally {
      release();
    }
  }

  /** Deletes everything. */
  async clear() {
    for (const { name } of await this._call("list")) await this._call("remove", name);
  }

  /** `delete` for whoever holds the lock. */
  removeUrl(url) {
    return this._remove(keyOf(url));
  }

  async _remove(key) {
    for (const ending of [FILE, PART, NOTE]) await this._call("remove", key + ending);
  }

  /** @returns {Promise<Note | null>} null for none, and for one that can't be read */
  async _note(key) {
    const blob = await this._call("read", key + NOTE);
    try {
      const note = JSON.parse(await blob.text());
      return typeof note.url === "string" ? note : null;
    } catch {
      return null;
    }
  }

  async _writeNote(key, note) {
    await this._call("remove", key + NOTE);
    await this._call("write", key + NOTE, 0, new TextEncoder().encode(JSON.stringify(note)));
    await this._call("read", key + NOTE); // ends the writing
  }

  /**
   * What is kept of `url`.
   * @returns {Promise<{note: Note | null, file: Blob | null, part: Blob | null}>} a file of another size than its
   *   note says is not complete, whatever its name, and is removed
   */
  async find(url) {
    const key = keyOf(url);
    const note = await this._note(key);
    if (note === null || note.url !== url) return { note: null, file: null, part: null };
    const file = await this._call("read", key + FILE);
    if (file && note.sha256 && file.size === note.bytes) return { note, file, part: null };
    if (file) await this._remove(key);
    return { note, file: null, part: file ? null : await this._call("read", key + PART) };
  }

  /**
   * Waits until no other tab or model is at this file.
   * @param {string} url @param {{signal?: AbortSignal, onWait?: () => void}} [options]
   * @returns {Promise<() => void>} a function that lets the next one in
   */
  lock(url, { signal, onWait } = {}) {
    const locks = globalThis.navigator?.locks;
    if (!locks) return Promise.resolve(() => {});
    const name = `ruvq:${this.kind}:${keyOf(url)}`;
    return new Promise((resolve, reject) => {
      const hold = () => new Promise((release) => { resolve(release); });
      const waitFor = () => locks.request(name, signal ? { signal } : {}, hold).catch(reject);
      locks.request(name, { ifAvailable: true }, (lock) => {
        if (lock) return hold();
        onWait?.();
        void waitFor();
        return undefined;
      }).catch(reject);
    });
  }

  /**
   * Begins to keep `url`, behind the first `offset` bytes that are there already.
   * @param {Partial<Note> & {url: string}} note
   * @throws {QuotaError} there is too little room for all of it
   */
  async writer(note, offset) {
    const key = keyOf(note.url);
    if (note.bytes !== null) {
      const free = await this._free();
      if (free !== null && note.bytes - offset > free) throw quotaError(this.kind, note.bytes - offset, free);
    }
    if (offset === 0) {
      await this._remove(key);
      await this._writeNote(key, { sha256: "", verified: false, saved: new Date().toISOString(), ...note });
    }
    return new FileWriter(this, key, offset);
  }

  /** Records that the kept file was compared with digests. */
  async setVerified(url) {
    const key = keyOf(url);
    const note = await this._note(key);
    if (note && !note.verified) await this._writeNote(key, { ...note, verified: true });
  }
}

/** A file on its way into the store. */
class FileWriter {
  constructor(store, key, offset) {
    this._store = store;
    this._key = key;
    this._offset = offset;
    this._block = new Uint8Array(BLOCK_BYTES);
    this._filled = 0;
  }

  /** @param {Uint8Array} piece @throws {QuotaError | StorageError} */
  async write(piece) {
    for (let at = 0; at < piece.length; ) {
      const part = piece.subarray(at, at + BLOCK_BYTES - this._filled);
      this._block.set(part, this._filled);
      this._filled += part.length;
      at += part.length;
      if (this._filled === BLOCK_BYTES) await this.flush();
    }
  }

  /** Everything so far is in the storage afterwards, for somebody to go on with. */
  async flush() {
    if (this._filled === 0) return;
    const block = this._block.subarray(0, this._filled);
    await this._store._call("write", this._key + PART, this._offset, block);
    this._offset += this._filled;
    this._filled = 0;
  }

  /** What there is stays for somebody to go on with. */
  async suspend() {
    await this.flush();
    await this._store._call("read", this._key + PART); // ends the writing
  }

  /** The file is complete and was checked: gives it its name. */
  async finish({ sha256, bytes, verified }) {
    await this.flush();
    const part = await this._store._call("read", this._key + PART);
    if (part?.size !== bytes) {
      throw new StorageError("the storage kept another file than it was given", {
        subject: this._store.kind, expected: `${bytes} bytes`, actual: `${part?.size ?? 0} bytes`,
      });
    }
    const note = await this._store._note(this._key);
    await this._store._writeNote(this._key, { ...note, sha256, bytes, verified });
    await this._store._call("rename", this._key + PART, this._key + FILE);
  }

  async discard() {
    await this._store._remove(this._key);
  }
}

/** A file name for an address: part of it for people, and a hash that tells addresses apart. */
export function keyOf(url) {
  let hash = 0xcbf29ce484222325n; // FNV-1a
  for (const byte of new TextEncoder().encode(url)) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  const name = new URL(url).pathname.split("/").pop().replace(/\.gguf$/i, "").replace(/[^\w.-]/g, "_").slice(0, 80);
  return `${hash.toString(16).padStart(16, "0")}-${name || "model"}`;
}
