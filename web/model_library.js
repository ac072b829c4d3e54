// model_library.js: what a page sees of the store: which models are kept, whether they are still what they were,
// fetching ahead, deleting.
//
//   const library = await ModelLibrary.open();
//   for (const { url, bytes, complete } of await library.list()) show(url, bytes, complete);
import { checkUrl } from "./download.js";
import { IntegrityError, StorageError } from "./errors.js";
import { openStore } from "./model_store.js";
import { WorkerLink, engineURLs } from "./worker_link.js";

/**
 * @typedef {object} WorkOptions
 * @property {(progress: {phase: string, loaded: number, total: number | null}) => void} [onProgress] bytes
 * @property {AbortSignal} [signal]
 */

/** The models that are kept. Make one with `ModelLibrary.open`. */
export class ModelLibrary {
  /**
   * @param {{storage?: import("./storage.js").ModelStorage, workerURL?: string | URL, wasmURL?: any}} [options] as
   *   those of Model.fetch; the same `storage` is the same library
   * @returns {Promise<ModelLibrary>}
   */
  static async open(options = {}) {
    return new ModelLibrary(await openStore(options.storage), options);
  }

  /** @private */
  constructor(store, { storage, workerURL, wasmURL }) {
    this._store = store;
    this._storage = storage;
    this._workerURL = workerURL;
    this._urls = engineURLs({ wasmURL });
  }

  /** "opfs", "memory" (gone with the page) or the name of the page's own storage. */
  get kind() {
    return this._store.kind;
  }

  /** Why models aren't kept for good, or "". */
  get notice() {
    return this._store.notice;
  }

  /** All models, the latest first; `complete` is false for the beginning of one, which the next fetch goes on with.
   * @returns {Promise<import("./model_store.js").StoredModel[]>} */
  list() {
    return this._store.list();
  }

  /** Bytes that models take, and that may still be kept (null: the browser doesn't say).
   * @returns {Promise<{used: number, free: number | null}>} */
  estimate() {
    return this._store.estimate();
  }

  /** Deletes what is kept of `url`, when no tab is loading it any more.
   * @param {string | URL} url @returns {Promise<void>} */
  delete(url) {
    return this._store.delete(checkUrl(url));
  }

  /** Deletes all models. @returns {Promise<void>} */
  clear() {
    return this._store.clear();
  }

  /**
   * Fetches a model (one file) ahead, to be loaded later, without a network too.
   * @param {string | URL} url @param {import("./arrival.js").KeepOptions & WorkOptions} [options]
   * @returns {Promise<{bytes: number, sha256: string}>}
   * @throws {QuotaError} there is no room @throws {DownloadError | IntegrityError | AbortError}
   */
  download(url, { onProgress, signal, ...keep } = {}) {
    const args = { url: checkUrl(url), storage: this._storage?.name, keep };
    return this._work("download", args, { onProgress, signal });
  }

  /**
   * Reads a kept model again and compares it with its digest.
   * @param {string | URL} url @param {WorkOptions} [options]
   * @returns {Promise<{bytes: number, sha256: string}>}
   * @throws {StorageError} it isn't kept @throws {IntegrityError} it is damaged: delete it
   */
  async verify(url, { onProgress, signal } = {}) {
    const address = checkUrl(url);
    const { note, file } = await this._store.find(address);
    if (!file) {
      throw new StorageError("this model is not kept", {
        subject: address, expected: "a complete copy", actual: "none",
      });
    }
    const sha256 = await this._work("digest", { blob: file }, { onProgress, signal });
    if (sha256 === note.sha256) return { bytes: file.size, sha256 };
    throw new IntegrityError("the kept model is damaged", {
      subject: address, expected: `SHA-256 ${note.sha256}`, actual: sha256, hint: "delete it, and fetch it again",
    });
  }

  async _work(call, args, { onProgress, signal }) {
    const link = new WorkerLink(this._workerURL, this._storage);
    try {
      const onEvent = ({ phase, loaded, total }) => onProgress?.({ phase, loaded, total });
      return await link.request(call, { urls: this._urls, ...args }, { signal, onEvent });
    } finally {
      link.close();
    }
  }
}
