// storage.js: where model files are kept: the browser's private file system (OPFS), or memory where there is
// none. Knows names and bytes, nothing of models or downloads; model_store.js does that. A page may bring its own.
import { QuotaError, StorageError, megabytes } from "./errors.js";

/**
 * Where files are kept, by name. All methods may be asynchronous. One that fails for lack of space throws a
 * QuotaError; whatever else it throws becomes a StorageError.
 * @typedef {object} ModelStorage
 * @property {string} name for messages and for locks: two storages of one name are the same place
 * @property {() => Promise<{name: string, bytes: number}[]>} list all files
 * @property {(name: string) => Promise<Blob | null>} read a file, null when there is none
 * @property {(name: string, offset: number, bytes: Uint8Array) => Promise<void>} write at `offset`, which is where
 *   the file ends so far; what was written survives a closed tab. `bytes` may be changed after the promise is kept
 * @property {(from: string, to: string) => Promise<void>} rename a file, over one that is there, in one step
 * @property {(name: string) => Promise<void>} remove a file, which need not be there
 */

const FOLDER = "ruvq-models";
const isQuota = (error) => error?.name === "QuotaExceededError" || error instanceof QuotaError;

/** The error of a storage as one of ruvq's. */
export function storageError(error, storage, name) {
  if (error instanceof QuotaError || error instanceof StorageError) return error;
  if (isQuota(error)) return quotaError(storage.name, null, null);
  return new StorageError("the storage failed", {
    subject: `${storage.name}: ${name}`, actual: `${error?.name ?? "error"}: ${error?.message ?? error}`,
    hint: "the model can be loaded without it: {cache: \"no-store\"}",
  });
}

/** @param {string} where @param {number | null} needed bytes @param {number | null} free bytes */
export function quotaError(where, needed, free) {
  return new QuotaError("there is no room to keep this model", {
    subject: where,
    expected: needed === null ? "room for the file" : `room for ${megabytes(needed)}`,
    actual: free === null ? "the browser's limit was reached" : `${megabytes(Math.max(0, free))} left`,
    hint: "delete models that are no longer needed, or free some of the disk",
  });
}

/** The origin's private file system. In a worker it writes through synchronous handles, straight to the disk. */
export class OpfsStorage {
  /** @returns {Promise<OpfsStorage>} throws where the browser has no such file system (some private windows) */
  static async open(folder = FOLDER) {
    const root = await navigator.storage.getDirectory();
    return new OpfsStorage(await root.getDirectoryHandle(folder, { create: true }));
  }

  /** @param {FileSystemDirectoryHandle} folder */
  constructor(folder) {
    this.name = "opfs";
    this._folder = folder;
    this._open = new Map(); // name → {write(offset, bytes), close()}
  }

  async list() {
    const files = [];
    for await (const [name, handle] of this._folder.entries()) {
      if (handle.kind === "file") files.push({ name, bytes: (await handle.getFile()).size });
    }
    return files;
  }

  async read(name) {
    await this._close(name);
    try {
      return await (await this._folder.getFileHandle(name)).getFile();
    } catch (error) {
      if (error.name === "NotFoundError") return null;
      throw error;
    }
  }

  async write(name, offset, bytes) {
    if (!this._open.has(name)) this._open.set(name, await this._writer(name, offset));
    await this._open.get(name).write(offset, bytes);
  }

  async _writer(name, offset) {
    const handle = await this._folder.getFileHandle(name, { create: true });
    if (!handle.createSyncAccessHandle) return streamWriter(handle);
    const access = await openAccess(handle);
    access.truncate(offset);
    return {
      write(at, bytes) {
        const written = access.write(bytes, { at });
        if (written < bytes.length) throw quotaError("opfs", null, null);
      },
      close() {
        access.flush();
        access.close();
      },
    };
  }

  /** Ends writing, so that the file can be read, renamed and removed. */
  async _close(name) {
    const writer = this._open.get(name);
    this._open.delete(name);
    await writer?.close();
  }

  async rename(from, to) {
    await this._close(from);
    const handle = await this._folder.getFileHandle(from);
    if (handle.move) {
      await this.remove(to);
      await handle.move(to);
      return;
    }
    // older browsers can't rename: a copy under a third name can't be avoided, nor one that is cut be mistaken
    // for a model, because model_store.js compares its size with the recorded one
    const file = await handle.getFile();
    const copy = await this._writer(to, 0);
    try {
      for (let at = 0; at < file.size; at += COPY_BYTES) {
        await copy.write(at, new Uint8Array(await file.slice(at, at + COPY_BYTES).arrayBuffer()));
      }
    } finally {
      await copy.close();
    }
    await this.remove(from);
  }

  async remove(name) {
    await this._close(name);
    try {
      await this._folder.removeEntry(name);
    } catch (error) {
      if (error.name !== "NotFoundError") throw error;
    }
  }

  /** Closes what is still open for writing. */
  async close() {
    for (const name of [...this._open.keys()]) await this._close(name);
  }
}

const COPY_BYTES = 4 << 20;
const HANDLE_TRIES = 20;
const HANDLE_WAIT_MS = 100;

/** A worker that was ended a moment ago may hold the file for a little longer. */
async function openAccess(handle) {
  for (let n = 1; ; n += 1) {
    try {
      return await handle.createSyncAccessHandle();
    } catch (error) {
      if (error.name !== "NoModificationAllowedError" || n === HANDLE_TRIES) throw error;
      await new Promise((resolve) => { setTimeout(resolve, HANDLE_WAIT_MS); });
    }
  }
}

/** For a page's own thread, which has no synchronous handles: what is written counts when it is closed. */
async function streamWriter(handle) {
  const stream = await handle.createWritable({ keepExistingData: true });
  return {
    write: (position, data) => stream.write({ type: "write", position, data }),
    close: () => stream.close(),
  };
}

/** Files as Blobs in this page's memory (which browsers may move to the disk), gone when the page is. */
export class MemoryStorage {
  /** @param {{limitBytes?: number}} [options] most bytes of all files together */
  constructor({ limitBytes = 512 * 2 ** 20 } = {}) {
    this.name = "memory";
    this.limitBytes = limitBytes;
    this._files = new Map(); // name → Blob
  }

  async list() {
    return [...this._files].map(([name, blob]) => ({ name, bytes: blob.size }));
  }

  async read(name) {
    return this._files.get(name) ?? null;
  }

  async write(name, offset, bytes) {
    const before = this._files.get(name) ?? new Blob([]);
    const others = [...this._files.values()].reduce((sum, blob) => sum + blob.size, 0) - before.size;
    const free = this.limitBytes - others;
    if (offset + bytes.length > free) throw quotaError(this.name, offset + bytes.length, free);
    this._files.set(name, new Blob([before.slice(0, offset), bytes]));
  }

  async rename(from, to) {
    this._files.set(to, this._files.get(from));
    this._files.delete(from);
  }

  async remove(name) {
    this._files.delete(name);
  }
}

/** A storage that lives on the other side of a message port: `ask(method, args)` answers with its result. */
export class RemoteStorage {
  /** @param {string} name @param {(method: string, args: unknown[]) => Promise<any>} ask */
  constructor(name, ask) {
    this.name = name;
    for (const method of STORAGE_METHODS) this[method] = (...args) => ask(method, args);
  }
}

export const STORAGE_METHODS = ["list", "read", "write", "rename", "remove"];

/** Bytes that this origin may still keep, null when the browser doesn't say. */
export async function freeBytes() {
  try {
    const { quota, usage } = await navigator.storage.estimate();
    return Number.isFinite(quota) ? quota - (usage ?? 0) : null;
  } catch {
    return null;
  }
}
