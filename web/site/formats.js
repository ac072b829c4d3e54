// formats.js: the formats that weights can be quantized to, as the engine lists them.
import { CONSTANTS as C, STRUCTS } from "../abi.js";
import { Engine, cString } from "../engine.js";

/**
 * @typedef {{id: number, name: string, bits: number, anyWidth: boolean, blockWeights: number}} WritableFormat
 * @param {import("../engine.js").Engine} engine @returns {WritableFormat[]}
 */
export function listFormats(engine) {
  return engine.withMemory(STRUCTS.rq_format_info.size, (at) => {
    const all = Array.from({ length: C.RQ_FORMAT_COUNT }, (_, id) => {
      engine.call("rq_format_describe", id, at);
      return engine.readStruct("rq_format_info", at);
    });
    return all.filter((info) => info.writable).map((info) => ({
      id: info.format,
      name: cString(info.name),
      bits: (8 * info.block_bytes) / info.block_weights,
      anyWidth: info.any_width !== 0,
      blockWeights: info.block_weights,
    }));
  });
}

/** @returns {Promise<WritableFormat[]>} */
export async function writableFormats() {
  return listFormats(await Engine.load(new URL("../ruvq.wasm", import.meta.url)));
}
