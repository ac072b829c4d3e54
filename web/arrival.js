// arrival.js: brings a model's files into a loader, from addresses, the store or local sources, as one stream of
// progress; keeps them once the model works. Runs in the worker.
import { checkDigest, Sha256 } from "./digest.js";
import { readLocal } from "./download.js";
import { AbortError, MemoryLimitError, UsageError } from "./errors.js";
import { CACHE_MODES, fetchFile, wrongDigest } from "./kept_download.js";
import { shardCount, shardURLs, totalBytes } from "./shards.js";

/**
 * @typedef {object} KeepOptions
 * @property {"default" | "reload" | "no-store" | "only-if-cached"} [cache] "default": the kept copy if there is one,
 *   else the network, and keep it; "reload": the network, and keep it; "no-store": the network; "only-if-cached"
 * @property {string | string[]} [sha256] what the file must be, or each of the shards; nothing else is run
 * @property {number} [bytes] how large the file must be, for progress where the server doesn't say
 */

/** @param {KeepOptions} options @returns the options, complete */
export function checkKeepOptions({ cache = "default", sha256, bytes = null }) {
  if (!CACHE_MODES.includes(cache)) {
    throw new UsageError("unknown way to use the store", {
      subject: "cache", expected: CACHE_MODES.map((mode) => `"${mode}"`).join(", "), actual: String(cache),
    });
  }
  if (bytes !== null && !(Number.isInteger(bytes) && bytes >= 0)) {
    throw new UsageError("not a number of bytes", { subject: "bytes", actual: String(bytes) });
  }
  const digests = Array.isArray(sha256) ? sha256.map(checkDigest) : checkDigest(sha256);
  return { cache, sha256: digests, bytes };
}

/**
 * Files on their way into one loader.
 * @param {import("./engine.js").Engine} engine @param {import("./model_loader.js").ModelLoader} loader
 * @param {{store: import("./model_store.js").ModelStore | null, signal: AbortSignal,
 *   onProgress: (progress: any) => void, onNotice: (notice: any) => void}
 *   & ReturnType<typeof checkKeepOptions>} context
 */
export class Arrival {
  constructor(engine, loader, context) {
    Object.assign(this, { engine, loader, context });
    /** @type {import("./kept_download.js").Transfer[]} */ this.transfers = [];
    this._before = 0; // bytes of the files that are complete
    this._several = false;
    this._total = null; // of all, where that is known
  }

  /** @param {string[]} urls one address, which may be a first shard's, or those of all shards */
  async fromURLs(urls) {
    const { context } = this;
    let list = urls.length === 1 ? shardURLs(urls[0], shardCount(urls[0])) : urls;
    const digests = this._digests(list.length);
    if (list.length > 1) {
      this._several = true;
      this._total = await totalBytes(list, context.signal);
      if (this._total !== null) this.loader.expect(this._total);
    }
    for (let n = 0; n < list.length; n += 1) {
      if (context.signal?.aborted) throw new AbortError();
      const transfer = await fetchFile(list[n], this.loader, {
        ...context, sha256: digests[n], bytes: list.length > 1 ? null : context.bytes,
        newDigest: () => new Sha256(this.engine), onProgress: (progress) => this._report(progress),
      });
      this.transfers.push(transfer);
      const count = this.loader.endFile();
      this._before += transfer.bytes;
      if (n === 0 && list.length !== count && urls.length === 1) list = shardURLs(list[0], count); // says what is wrong
    }
  }

  _digests(count) {
    const { sha256 } = this.context;
    const list = Array.isArray(sha256) ? sha256 : [sha256];
    if (count > 1 && sha256 === null) return new Array(count).fill(null);
    if (list.length === count) return list;
    throw new UsageError("a model in several files has a digest for each", {
      subject: "sha256", expected: `${count} of them`, actual: String(list.length),
    });
  }

  /** @param {(Blob | BufferSource)[]} sources */
  async fromSources(sources) {
    const sizes = sources.map((source) => source.size ?? source.byteLength);
    const digests = this._digests(sources.length);
    this._several = sources.length > 1;
    if (this._several) this._total = sizes.reduce((sum, bytes) => sum + bytes, 0);
    for (const [n, source] of sources.entries()) {
      await this._read(source, digests[n]);
      this.loader.endFile();
      this._before += sizes[n];
    }
  }

  async _read(source, sha256) {
    const { loader, context } = this;
    const digest = sha256 ? new Sha256(this.engine) : null;
    const write = (piece) => {
      loader.write(piece);
      digest?.update(piece);
    };
    try {
      const onProgress = (progress) => this._report(progress);
      await readLocal(source, { begin: (bytes) => loader.begin(bytes), write }, { signal: context.signal, onProgress });
      const found = digest?.hex();
      if (digest && found !== sha256) throw wrongDigest(source.name ?? "the bytes given", sha256, found);
    } finally {
      digest?.free();
    }
  }

  _report({ phase, loaded, total }) {
    const here = this._before + loaded;
    const all = this._total === null ? null : Math.max(this._total, here);
    this.context.onProgress({ phase, loaded: here, total: this._several ? all : total });
  }

  /** Whether some file came without having been compared with a digest from elsewhere. */
  get unverified() {
    return this.transfers.some((transfer) => !transfer.verified) && this.context.cache !== "no-store";
  }

  /** Where the files came from, for the page. */
  describe() {
    return {
      fromStore: this.transfers.length > 0 && this.transfers.every((transfer) => transfer.fromStore),
      kept: this.transfers.map((transfer) => transfer.kept),
      sha256: this.transfers.map((transfer) => transfer.sha256),
    };
  }

  /** The model works. @param {boolean} verified its data was compared with the digests inside it */
  async commit(verified) {
    for (const transfer of this.transfers.splice(0)) await transfer.commit(verified || transfer.verified);
  }

  /** It doesn't. @param {unknown} error why */
  async abandon(error) {
    const usable = error instanceof AbortError || error instanceof MemoryLimitError;
    for (const transfer of this.transfers.splice(0)) await transfer.abandon(usable);
  }
}
