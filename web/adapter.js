// adapter.js: LoRA adapters of a model in a worker, as pages see them.
import { checkUrl, isLocalSource } from "./download.js";
import { AbortError } from "./errors.js";

/**
 * @typedef {object} AdapterOptions
 * @property {number} [scale] what its products are multiplied by, beside alpha / rank; default 1
 * @property {boolean} [verify] check all numbers and the recorded SHA-256 sums; default false
 * @property {(progress: {phase: string, loaded: number, total: number | null}) => void} [onProgress]
 * @property {(notice: {kind: string, message: string}) => void} [onNotice]
 * @property {AbortSignal} [signal] stops loading
 */

/** An adapter that a model computes with; made by `Model.loadAdapter`. */
export class Adapter {
  /** @private
   * @param {import("./ruvq.js").Model} model @param {{id: number, info: {name: string, bytes: number}}} loaded */
  constructor(model, { id, info }) {
    this._model = model;
    this._id = id;
    /** @type {string} as the file says */ this.name = info.name;
    /** @type {number} of engine memory that it takes */ this.bytes = info.bytes;
    this.scale = 0;
  }

  /** Stops a generation that runs; the model forgets all tokens. @param {number} scale */
  async setScale(scale) {
    await changeAdapter(this._model, "scaleAdapter", { id: this._id, scale });
    this.scale = scale;
  }

  /** The model computes without it from now on. May be called twice. */
  async unload() {
    await changeAdapter(this._model, "unloadAdapter", { id: this._id });
  }
}

/**
 * See Model.loadAdapter.
 * @param {import("./ruvq.js").Model} model @param {string | URL | Blob | BufferSource} source
 * @param {AdapterOptions & import("./arrival.js").KeepOptions} [options] @returns {Promise<Adapter>}
 */
export async function loadAdapter(model, source, { scale = 1, onProgress, onNotice, signal, ...rest } = {}) {
  const { cache, sha256, bytes, verify } = rest;
  const from = isLocalSource(source) ? { sources: [source] } : { addresses: [checkUrl(source)] };
  const onEvent = ({ event, kind, message, phase, loaded, total }) => {
    if (event === "progress") onProgress?.({ phase, loaded, total });
    else onNotice?.({ kind, message });
  };
  if (signal?.aborted) throw new AbortError("the adapter");
  const args = { ...from, storage: model._storage, keep: { cache, sha256, bytes }, verify };
  const adapter = new Adapter(model, await model._link.request("loadAdapter", args, { signal, onEvent }));
  try {
    if (signal?.aborted) throw new AbortError("the adapter"); // it was there before the worker heard of it
    await adapter.setScale(scale);
  } catch (error) {
    await adapter.unload();
    throw error;
  }
  return adapter;
}

/** Between two texts: a generation that runs is stopped first.
 * @param {import("./ruvq.js").Model} model @param {string} call @param {object} args @returns {Promise<void>} */
export async function changeAdapter(model, call, args) {
  const { ready, release } = model._takeTurn(new AbortController());
  await ready;
  try {
    await model._link.request(call, args);
  } finally {
    release();
  }
}
