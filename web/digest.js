// digest.js: SHA-256 of bytes that come in pieces, which browsers' own crypto can't do. Computed by the core.
import { STRUCTS } from "./abi.js";
import { UsageError } from "./errors.js";

const STAGE_BYTES = 1 << 18;
const DIGEST_BYTES = 32;

/** A running SHA-256 in an engine's memory. */
export class Sha256 {
  /** @param {import("./engine.js").Engine} engine */
  constructor(engine) {
    this._engine = engine;
    this._state = engine.alloc(STRUCTS.rq_sha256.size + DIGEST_BYTES + STAGE_BYTES);
    this._out = this._state + STRUCTS.rq_sha256.size;
    this._stage = this._out + DIGEST_BYTES;
    this.reset();
  }

  /** Begins anew. */
  reset() {
    this._engine.call("rq_sha256_init", this._state);
  }

  /** @param {Uint8Array} bytes */
  update(bytes) {
    for (let at = 0; at < bytes.length; at += STAGE_BYTES) {
      const piece = bytes.subarray(at, at + STAGE_BYTES);
      this._engine.write(this._stage, piece);
      this._engine.call("rq_sha256_update", this._state, this._stage, this._stage + piece.length);
    }
  }

  /** Ends it. @returns {string} 64 hexadecimal digits */
  hex() {
    this._engine.call("rq_sha256_final", this._state, this._out);
    return Array.from(this._engine.read(this._out, DIGEST_BYTES), (b) => b.toString(16).padStart(2, "0")).join("");
  }

  free() {
    this._engine.free(this._state);
    this._state = 0;
  }
}

/** @param {unknown} sha256 of a caller, or undefined @returns {string | null} in lower case */
export function checkDigest(sha256) {
  if (sha256 === undefined || sha256 === null) return null;
  if (typeof sha256 === "string" && /^[0-9a-f]{64}$/i.test(sha256)) return sha256.toLowerCase();
  throw new UsageError("not a SHA-256", {
    subject: "sha256", expected: "64 hexadecimal digits", actual: String(sha256),
  });
}
