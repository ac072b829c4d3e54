// kernels.js: one engine in the caller's own thread, for what is computed on single matrices and texts.
import { STRUCTS, CONSTANTS as C } from "./abi.js";
import { Engine, cString } from "./engine.js";
import { UsageError } from "./errors.js";
import { engineModules } from "./modules.js";

let engine = null;
let loading = null;

/**
 * Loads the engine, once; what follows is synchronous.
 * @param {{wasm?: string | URL | BufferSource | WebAssembly.Module}} [options] `wasm`: where ruvq.wasm is, when not
 *   beside this file, or its bytes
 * @returns {Promise<void>} @throws {UnsupportedError | DownloadError}
 */
export async function init({ wasm } = {}) {
  loading ??= Engine.load(wasm ?? engineModules()).catch((error) => {
    loading = null;
    throw error;
  });
  engine = await loading;
}

/** @returns {Engine} @throws {UsageError} before init */
export function kernels() {
  if (engine) return engine;
  throw new UsageError("the engine isn't loaded yet", { hint: "await init() first" });
}

/** A format by its name. @returns {{format: number, name: string, any_width: number, block_weights: number,
 *   block_bytes: number, writable: number}} */
export function formatNamed(name) {
  const all = formats();
  const found = all.find((format) => format.name === name);
  if (found) return found;
  throw new UsageError("unknown format", {
    subject: "format", expected: all.map((format) => format.name).join(", "), actual: String(name),
  });
}

/** All formats that the engine computes with. */
export function formats() {
  const core = kernels();
  return core.withMemory(STRUCTS.rq_format_info.size, (info) =>
    Array.from({ length: C.RQ_FORMAT_COUNT }, (_, format) => {
      core.call("rq_format_describe", format, info);
      const fields = core.readStruct("rq_format_info", info);
      return { ...fields, name: cString(fields.name) };
    }));
}

/** Runs `body(address)` with the numbers in memory. @param {Float32Array} numbers */
export function withFloats(numbers, body) {
  const core = kernels();
  return core.withMemory(numbers.byteLength, (address) => {
    core.write(address, new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength));
    return body(address);
  });
}

/** A copy of `count` numbers. @returns {Float32Array} */
export function readFloats(address, count) {
  return new Float32Array(kernels().read(address, count * 4).buffer);
}
