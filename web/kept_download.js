// kept_download.js: a file from the store, or downloaded into it: checked before it counts, and continued where an
// earlier download broke off. What goes wrong with keeping it is a notice; the file still arrives.
import { CutError, openDownload, pump, readLocal } from "./download.js";
import { AbortError, DownloadError, IntegrityError, MemoryLimitError, QuotaError, StorageError } from "./errors.js";

const TRIES_WITHOUT_PROGRESS = 4;
const FIRST_WAIT_MS = 500;

/** How `fetch` uses the store; the names are those of fetch()'s `cache`. */
export const CACHE_MODES = ["default", "reload", "no-store", "only-if-cached"];

/**
 * @typedef {object} Transfer a file that has arrived
 * @property {number} bytes
 * @property {string} sha256 "" when nobody asked for it
 * @property {boolean} fromStore @property {boolean} kept in the store once it is committed
 * @property {boolean} verified it was compared with a digest from elsewhere, or was when it was kept
 * @property {(verified: boolean) => Promise<void>} commit keeps it for good: the file works
 * @property {(usable: boolean) => Promise<void>} abandon it doesn't (`usable` false: what is kept of it is removed)
 */
/**
 * @typedef {object} Context
 * @property {import("./model_store.js").ModelStore | null} store null: nothing is kept
 * @property {string} cache one of CACHE_MODES
 * @property {string | null} sha256 @property {number | null} bytes as the caller knows them
 * @property {() => import("./digest.js").Sha256} newDigest
 * @property {AbortSignal} [signal]
 * @property {(progress: import("./download.js").Progress) => void} onProgress
 * @property {(notice: {kind: string, message: string}) => void} onNotice
 */

/**
 * Brings `url` into `sink`.
 * @param {string} url @param {import("./download.js").Sink & {restart(): void}} sink @param {Context} context
 * @returns {Promise<Transfer>}
 */
export async function fetchFile(url, sink, context) {
  const job = new Job(url, sink, context);
  try {
    return await job.run();
  } catch (error) {
    await job.abandon(keepsItsPart(error));
    throw error;
  }
}

/** What to ask the server for, null for all of it. */
function resumeAt(offset, validator, total) {
  return offset && validator ? { offset, validator, total: total ?? null } : null;
}

/** Whether what has come so far is worth going on with. */
function keepsItsPart(error) {
  return error instanceof AbortError || error instanceof MemoryLimitError
    || (error instanceof DownloadError && error.code === "");
}

class Job {
  constructor(url, sink, context) {
    Object.assign(this, { url, sink, context });
    this.store = context.cache === "no-store" ? null : context.store;
    this.have = 0; // bytes that the sink has
    this.total = context.bytes;
    this.writer = null;
    this.release = () => {};
    this.continued = false; // behind a part that was kept
    this.validator = null;
    this.digest = this.store || context.sha256 ? context.newDigest() : null;
  }

  async run() {
    const { context } = this;
    let kept = { note: null, file: null, part: null };
    if (this.store) {
      const onWait = () => context.onProgress({ phase: "wait", loaded: 0, total: this.total });
      this.release = await this._aborting(this.store.lock(this.url, { signal: context.signal, onWait }));
      try {
        kept = await this.store.find(this.url);
      } catch (error) {
        this._withoutStore(error);
      }
    }
    if (kept.file && context.cache !== "reload" && (await this._fromStore(kept))) return this._arrived(true, kept.note);
    if (context.cache === "only-if-cached") {
      throw new DownloadError("this model is not in the store", {
        subject: this.url, expected: "a complete copy", actual: kept.part ? "a part of it" : "none",
        hint: "load it once with {cache: \"default\"} while there is a network",
      });
    }
    await this._fromNetwork(context.cache === "reload" ? { note: null, part: null } : kept);
    return this._arrived(false, null);
  }

  async _aborting(promise) {
    try {
      return await promise;
    } catch (error) {
      if (this.context.signal?.aborted) throw new AbortError();
      throw error;
    }
  }

  // ---- from the store ----

  /** @returns {Promise<boolean>} false: what is kept was damaged or is another file, and is gone */
  async _fromStore({ note, file }) {
    const { sha256, bytes } = this.context;
    const other = (sha256 && note.sha256 !== sha256) || (bytes !== null && note.bytes !== bytes);
    if (!other) {
      try {
        this._begin(file.size);
        await this._feed(file);
        if (this._hex() === note.sha256) return true;
        this.context.onNotice({ kind: "repair", message: `the kept copy of ${this.url} is damaged: fetched again` });
      } catch (error) {
        if (!(error instanceof StorageError)) throw error;
        this.context.onNotice({ kind: "repair", message: `the kept copy of ${this.url} can't be read: fetched again` });
      }
    }
    if (this.context.cache === "only-if-cached") return false;
    await this.store.removeUrl(this.url);
    this._restart();
    return false;
  }

  /** The bytes of a Blob, as those of a download. */
  async _feed(blob) {
    const total = this.total;
    const onProgress = ({ loaded }) => this.context.onProgress({ phase: "cache", loaded, total });
    const sink = { begin: () => {}, write: (piece) => this._take(piece) };
    await readLocal(blob, sink, { signal: this.context.signal, onProgress });
  }

  // ---- from the network ----

  async _fromNetwork({ note, part }) {
    let resume = resumeAt(part?.size, note?.validator, note?.bytes);
    for (let tries = 0, reached = 0; ; ) {
      try {
        await this._receive(await openDownload(this.url, { signal: this.context.signal, resume }), part);
        break;
      } catch (error) {
        tries = this.have > reached ? 1 : tries + 1;
        reached = this.have;
        if (!this._mayGoOn(error) || tries > TRIES_WITHOUT_PROGRESS) throw error;
        await pause(FIRST_WAIT_MS * 2 ** (tries - 1), this.context.signal);
        resume = resumeAt(this.have, this.validator, this.total);
      }
    }
    try {
      this._checkArrived();
    } catch (error) {
      if (!this.continued) throw error;
      // the part that was here may be to blame: once more, all of it
      this.context.onNotice({ kind: "repair", message: `the kept part of ${this.url} was no use: fetched again` });
      this.continued = false;
      this._restart();
      await this._fromNetwork({ note: null, part: null });
    }
  }

  _mayGoOn(error) {
    if (this.validator === null) return false;
    return error instanceof CutError || (this.have > 0 && error instanceof DownloadError && error.code === "");
  }

  async _receive(opened, part) {
    const { signal, onProgress } = this.context;
    if (opened.offset > 0 && this.have === 0) {
      this._begin(opened.announced);
      this.continued = true;
      await this._feed(part);
      await this._openWriter(opened, opened.offset);
    } else if (opened.offset === 0) {
      if (this.have > 0) this._restart();
      this._begin(opened.announced);
      await this._openWriter(opened, 0);
    }
    this.validator = opened.validator;
    const sink = { write: async (piece) => {
      this._take(piece);
      await this._keep((writer) => writer.write(piece));
    } };
    await pump(opened, sink, { signal, onProgress });
  }

  _begin(announced) {
    const { bytes } = this.context;
    if (bytes !== null && announced !== null && announced !== bytes) throw this._wrongSize(announced);
    this.total = announced ?? bytes;
    this.sink.begin(this.total);
  }

  _take(piece) {
    this.sink.write(piece);
    this.digest?.update(piece);
    this.have += piece.length;
  }

  _restart() {
    this.sink.restart();
    this.digest?.reset();
    this._digestText = undefined;
    this.have = 0;
    this.total = this.context.bytes;
  }

  _checkArrived() {
    const { bytes, sha256 } = this.context;
    if (bytes !== null && this.have !== bytes) throw this._wrongSize(this.have);
    if (sha256 && this._hex() !== sha256) {
      throw wrongDigest(this.url, sha256, this._hex());
    }
  }

  _wrongSize(actual) {
    return new IntegrityError("the file has another size than it should", {
      subject: this.url, expected: `${this.context.bytes} bytes`, actual: `${actual} bytes`,
    });
  }

  _hex() {
    return (this._digestText ??= this.digest?.hex() ?? "");
  }

  // ---- keeping it ----

  async _openWriter({ announced, validator }, offset) {
    if (!this.store) return;
    const note = { url: this.url, bytes: announced, validator };
    try {
      this.writer = await this.store.writer(note, offset);
    } catch (error) {
      this._withoutStore(error);
    }
  }

  /** Does something with the writer; when that fails, the file arrives without being kept. */
  async _keep(action) {
    if (!this.writer) return false;
    try {
      await action(this.writer);
      return true;
    } catch (error) {
      const writer = this.writer;
      this._withoutStore(error);
      await writer.discard().catch(() => {}); // the room it took is what is needed
      return false;
    }
  }

  _withoutStore(error) {
    this.writer = null;
    this.store = null;
    const kind = error instanceof QuotaError ? "quota" : "storage";
    this.context.onNotice({ kind, message: `${this.url} is not kept: ${error.message}`, error });
  }

  // ---- the end ----

  /** @returns {Transfer} */
  _arrived(fromStore, note) {
    const { sha256 } = this.context;
    return {
      bytes: this.have,
      sha256: this._hex(),
      fromStore,
      kept: fromStore || this.writer !== null,
      verified: sha256 !== null || (note?.verified ?? false),
      commit: async (verified) => {
        if (fromStore && this.store && verified && !note.verified) await this.store.setVerified(this.url);
        await this._keep((writer) => writer.finish({ sha256: this._hex(), bytes: this.have, verified }));
        this._end();
      },
      abandon: async (usable) => {
        if (fromStore && !usable) await this.store?.removeUrl(this.url).catch(() => {});
        await this.abandon(usable);
      },
    };
  }

  /** Ends without success. What has come so far stays for the next try, unless it is no use. */
  async abandon(usable) {
    if (this.writer) await this._keep((writer) => (usable ? writer.suspend() : writer.discard()));
    this._end();
  }

  _end() {
    this.writer = null;
    this.digest?.free();
    this.digest = null;
    this.release();
  }
}

/** @returns {IntegrityError} */
export function wrongDigest(subject, expected, actual) {
  return new IntegrityError("the file is not the one that was asked for", {
    subject, expected: `SHA-256 ${expected}`, actual,
    hint: "this is another file, or it was damaged on the way: check where it came from",
  });
}

function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(new AbortError());
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    if (signal?.aborted) stop();
    signal?.addEventListener("abort", stop, { once: true });
  });
}
