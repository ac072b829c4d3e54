// download.js: bytes from a URL, a Blob or memory, streamed into a sink (ModelLoader) as they come, so that
// the file is held once. Knows what goes wrong on the way and says it: error pages, cuts, wrong lengths.
import { AbortError, DownloadError, FileFormatError, StorageError, UsageError } from "./errors.js";
import { describeStart, megabytes } from "./errors.js";
import { bytesOf } from "./engine.js";

const GGUF_MAGIC = "GGUF";
const PIECE_BYTES = 1 << 20; // of memory that is already here
const SNIFF_BYTES = 64;
const BUFFER_BYTES = 1 << 18; // of a stream that fills a buffer of ours

/**
 * @typedef {{begin(bytes: number | null): void, write(piece: Uint8Array): void | Promise<void>}} Sink a piece's memory
 *   is used again
 * @typedef {{phase: string, loaded: number, total: number | null}} Progress total is null when nobody says
 * @typedef {{signal?: AbortSignal, onProgress?: (progress: Progress) => void}} TransferOptions
 * @typedef {{etag: string, lastModified: string}} Validator what tells one version of a file from another; "" each
 *   where the server doesn't say
 * @typedef {object} Opened a download that has begun
 * @property {ReadableStream} body @property {string} url @property {string} type
 * @property {number} offset where in the file it begins: 0, or where it was asked to
 * @property {number | null} announced bytes of the whole file, null when nobody says
 * @property {Validator | null} validator null: a part of this download can't be continued
 */

/**
 * Downloads `url` into `sink`, without keeping it.
 * @param {string | URL} url @param {Sink} sink @param {TransferOptions} [options]
 * @throws {DownloadError | AbortError} and what the sink raises, at once and before the rest is downloaded
 */
export async function download(url, sink, { signal, onProgress } = {}) {
  const opened = await openDownload(url, { signal });
  sink.begin(opened.announced);
  await pump(opened, sink, { signal, onProgress });
}

/**
 * Begins a download, or goes on with one.
 * @param {string | URL} url
 * @param {{signal?: AbortSignal,
 *   resume?: {offset: number, validator: Validator, total: number | null} | null}} [options]
 *   `resume`: what is here already; a server whose file is another by now, or that knows no ranges, gives all of it
 * @returns {Promise<Opened>}
 */
export async function openDownload(url, { signal, resume = null } = {}) {
  const response = await request(url, signal, resume);
  if (response.status === 206 && resume) {
    const opened = continued(response, url, resume);
    if (opened) return opened;
  }
  if (resume && (response.status === 206 || response.status === 416)) {
    void response.body?.cancel();
    return openDownload(url, { signal });
  }
  if (!response.ok) {
    void response.body?.cancel();
    throw new DownloadError("the server did not give the model", {
      subject: String(url),
      expected: "status 200",
      actual: `status ${response.status} ${response.statusText}`.trim(),
      hint: "check the address",
    });
  }
  // a compressed transfer announces its compressed length, which says nothing about the file
  const encoded = (response.headers.get("content-encoding") ?? "identity") !== "identity";
  const length = response.headers.get("content-length");
  const announced = encoded || !/^\d+$/.test(length ?? "") ? null : Number(length);
  const validator = encoded || announced === null ? null : validatorOf(response);
  return { body: response.body, url: String(url), type: typeOf(response), offset: 0, announced, validator };
}

const typeOf = (response) => response.headers.get("content-type") ?? "";

/** Weak tags tell meanings apart, not bytes, so they don't count. @returns {Validator | null} */
function validatorOf({ headers }) {
  const tag = headers.get("etag") ?? "";
  const etag = /^"[^"]*"$/.test(tag) ? tag : "";
  const lastModified = headers.get("last-modified") ?? "";
  return etag || lastModified ? { etag, lastModified } : null;
}

/** The rest of a file, where it is the right rest of the same file. @returns {Opened | null} */
function continued(response, url, { offset, validator, total }) {
  const [, first, last, size] = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(response.headers.get("content-range") ?? "") ?? [];
  const now = validatorOf(response) ?? { etag: "", lastModified: "" };
  const same = validator.etag && now.etag ? validator.etag === now.etag
    : validator.lastModified !== "" && validator.lastModified === now.lastModified;
  if (!same || Number(first) !== offset || Number(last) !== Number(size) - 1) return null;
  if (total !== null && Number(size) !== total) return null;
  return {
    body: response.body, url: String(url), type: typeOf(response), offset, announced: Number(size), validator,
  };
}

async function request(url, signal, resume) {
  const headers = {};
  if (resume) {
    headers.Range = `bytes=${resume.offset}-`;
    // to another site this header would need its permission; there the answer's own headers are compared
    const ours = new URL(url, globalThis.location?.href).origin === globalThis.location?.origin;
    if (ours) headers["If-Range"] = resume.validator.etag || resume.validator.lastModified;
  }
  try {
    return await fetch(url, { signal, headers });
  } catch (error) {
    if (signal?.aborted) throw new AbortError();
    throw new DownloadError("no answer from the server", {
      subject: String(url),
      expected: "a GGUF file",
      actual: error.message,
      hint: "check the address and the network; another site must allow this page by Access-Control-Allow-Origin",
    });
  }
}

/**
 * Reads the stream to its end; cancels it when anything fails.
 * @param {Opened} opened @param {{write(piece: Uint8Array): void | Promise<void>}} sink
 * @param {TransferOptions} [options] progress counts from the beginning of the file
 */
export async function pump(opened, sink, { signal, onProgress } = {}) {
  const reader = openReader(opened.body);
  let total = opened.announced;
  let loaded = opened.offset;
  let sniffed = opened.offset === 0 ? new Uint8Array(0) : null;
  try {
    for (;;) {
      const { done, value } = await readPiece(reader, opened, loaded, signal);
      if (done) break;
      if (sniffed !== null) {
        // the first bytes decide what this is; they may come one by one
        sniffed = concat(sniffed, value);
        if (sniffed.length >= GGUF_MAGIC.length) {
          checkMagic(sniffed, opened);
          sniffed = null;
        }
      }
      loaded += value.length;
      if (total !== null && loaded > total) total = null; // the sender was wrong, or compressed it in secret
      await sink.write(value);
      onProgress?.({ phase: "download", loaded, total });
    }
    if (sniffed !== null) checkMagic(sniffed, opened);
    if (total !== null && loaded < total) throw cut(opened, loaded, "the connection was closed");
  } catch (error) {
    await reader.cancel().catch(() => {}); // the failure that counts is the first one
    throw error;
  }
}

/**
 * A reader whose pieces are valid until the next `read`. Where the stream can, it fills one buffer again and again:
 * otherwise every piece is new memory that waits for the garbage collector, together as much as the file.
 */
function openReader(stream) {
  let reader;
  try {
    reader = stream.getReader({ mode: "byob" });
  } catch {
    return stream.getReader(); // not a stream of bytes to this host
  }
  let buffer = new ArrayBuffer(BUFFER_BYTES);
  return {
    async read() {
      const { done, value } = await reader.read(new Uint8Array(buffer));
      if (value) buffer = value.buffer; // the same memory: handed over and back
      return { done, value };
    },
    cancel: () => reader.cancel(),
  };
}

async function readPiece(reader, opened, loaded, signal) {
  if (signal?.aborted) throw new AbortError();
  try {
    return await reader.read();
  } catch (error) {
    if (signal?.aborted) throw new AbortError();
    throw cut(opened, loaded, error.message);
  }
}

/** A download that broke off: what came stands, and the rest may be asked for. */
export class CutError extends DownloadError {
  constructor(message, details) {
    super(message, details);
    this.name = "DownloadError"; // what it is to everybody else
  }
}

function cut({ url, announced }, loaded, reason) {
  return new CutError("the download was cut", {
    subject: url,
    expected: announced === null ? "the whole file" : `${announced} bytes`,
    actual: `${loaded} bytes, then: ${reason}`,
    hint: "try again",
  });
}

/** Refuses what is no GGUF file by its first bytes, and says what it is. A local file is left to the parser. */
function checkMagic(start, { url, name, type = "" }) {
  const head = new TextDecoder("latin1").decode(start.subarray(0, SNIFF_BYTES));
  if (head.startsWith(GGUF_MAGIC)) return;
  const page = /^\s*<(!doctype|html|\?xml|head|body)/i.test(head) || /\btext\/html\b/i.test(type);
  if (!page && !url) return;
  throw new (url ? DownloadError : FileFormatError)(page ? "got HTML instead of a model" : "this is not a model file", {
    subject: url ?? name,
    expected: "a GGUF file",
    actual: `${page ? "a web page, " : ""}${describeStart(start)}`,
    hint: page
      ? "check the address: servers answer so when a file is missing or needs a login"
      : "ruvq runs GGUF files; `ruvq quantize` makes them",
    code: "RQ_E_MAGIC",
  });
}

/**
 * Reads a Blob, a File or bytes into `sink`.
 * @param {Blob | BufferSource} source @param {Sink} sink @param {TransferOptions & {phase?: string}} [options]
 */
export async function readLocal(source, sink, { signal, onProgress, phase = "read" } = {}) {
  const isBlob = typeof Blob !== "undefined" && source instanceof Blob;
  const name = isBlob ? source.name || "the file" : "the bytes given";
  const bytes = isBlob ? null : bytesOf(source);
  const total = isBlob ? source.size : bytes.length;
  sink.begin(total);
  for (let loaded = 0; loaded < total; ) {
    if (signal?.aborted) throw new AbortError();
    const end = Math.min(loaded + PIECE_BYTES, total);
    const piece = isBlob ? await readSlice(source, loaded, end, name) : bytes.subarray(loaded, end);
    if (loaded === 0) checkMagic(piece, { name });
    await sink.write(piece);
    loaded = end;
    onProgress?.({ phase, loaded, total });
    if (!isBlob) await null;
  }
}

async function readSlice(blob, start, end, name) {
  try {
    return new Uint8Array(await blob.slice(start, end).arrayBuffer());
  } catch (error) {
    throw new StorageError("the file can't be read", {
      subject: name,
      expected: `${megabytes(blob.size)}`,
      actual: `${start} bytes, then: ${error.message}`,
      hint: "it may have been moved or changed; choose it again",
    });
  }
}

/** @param {unknown} source @returns {boolean} whether readLocal takes it */
export function isLocalSource(source) {
  return (typeof Blob !== "undefined" && source instanceof Blob) || ArrayBuffer.isView(source)
    || /ArrayBuffer\]$/.test(Object.prototype.toString.call(source));
}

export function checkUrl(url) {
  try {
    return new URL(url, globalThis.location?.href).href;
  } catch {
    throw new UsageError("this is not an address", { subject: String(url), hint: "give a URL or a path on this site" });
  }
}

function concat(a, b) {
  const joined = new Uint8Array(a.length + b.length);
  joined.set(a);
  joined.set(b, a.length);
  return joined;
}
