// bench-worker.js: measures every format in a worker of its own: random weights are quantized, decoded and
// multiplied by a vector with the engine's kernels, on one thread. One message a format, then {done}.
import { CONSTANTS as C, STRUCTS } from "../abi.js";
import { Engine } from "../engine.js";
import { errorToPlain } from "../errors.js";
import { listFormats } from "./formats.js";

const SHORTEST = 0.02; // seconds that one timing fills
const seconds = () => performance.now() / 1000;

/** Normal weights from a small generator: the same numbers on every device. */
function weights(count) {
  let state = 1;
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 0.5) / 2 ** 32;
  };
  const one = () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
  return Float32Array.from({ length: count }, one);
}

function secondsOf(work) {
  let calls = 0;
  const begun = seconds();
  for (;;) {
    work();
    calls += 1;
    const elapsed = seconds() - begun;
    if (elapsed >= SHORTEST) return elapsed / calls;
  }
}

function median(rounds, work) {
  const times = Array.from({ length: rounds }, () => secondsOf(work)).sort((a, b) => a - b);
  return times[rounds >> 1];
}

class Bench {
  constructor(engine, rows, width) {
    Object.assign(this, { engine, rows, width, count: rows * width });
    this.source = this._place(weights(this.count));
    this.vector = this._place(weights(width));
    this.decoded = engine.alloc(4 * this.count);
    this.product = engine.alloc(4 * rows);
    this.options = engine.alloc(STRUCTS.rq_encode_options.size);
    engine.bytes.fill(0, this.options, this.options + STRUCTS.rq_encode_options.size); // the defaults
  }

  _place(values) {
    const address = this.engine.alloc(values.byteLength);
    this.engine.write(address, new Uint8Array(values.buffer));
    return address;
  }

  /** @param {import("./formats.js").WritableFormat} format @param {number} rounds */
  measure({ id, name, bits }, rounds) {
    const { engine, rows, width, count } = this;
    const rowBytes = engine.call("rq_format_row_bytes", id, width);
    const scratchBytes = Math.max(16, engine.call("rq_encode_scratch", id, width),
      engine.call("rq_matvec_scratch", id, width), engine.call("rq_compare_scratch", rows, width));
    const data = engine.alloc(rows * rowBytes);
    const scratch = engine.alloc(scratchBytes);
    const end = scratch + scratchBytes;
    const comparison = engine.alloc(STRUCTS.rq_comparison.size);
    try {
      const begun = seconds();
      engine.call("rq_encode", id, this.options, this.source, 0, rows, width, data, scratch, end);
      const encode = seconds() - begun;
      const decode = () => engine.call("rq_decode", id, data, rows, width, this.decoded, C.RQ_SIMD);
      decode();
      engine.call("rq_compare", this.source, this.decoded, rows, width, comparison, scratch, end);
      const { snr_db: snr } = engine.readStruct("rq_comparison", comparison);
      const matvec = () => engine.call("rq_matvec", id, data, rows, width, this.vector, this.product, scratch, end,
        C.RQ_SIMD);
      return {
        format: name,
        bits_per_weight: (8 * rowBytes) / width,
        bits_per_weight_nominal: bits,
        snr_db: Number.isFinite(snr) ? snr : null,
        encode_mweights_per_s: count / encode / 1e6,
        decode_mweights_per_s: count / median(rounds, decode) / 1e6,
        matvec_mweights_per_s: count / median(rounds, matvec) / 1e6,
      };
    } finally {
      for (const address of [data, scratch, comparison]) engine.free(address);
    }
  }
}

self.onmessage = async ({ data: { rows, width, rounds } }) => {
  try {
    const engine = await Engine.load(new URL("../ruvq.wasm", import.meta.url));
    const bench = new Bench(engine, rows, width);
    const formats = listFormats(engine).filter((f) => f.anyWidth || width % f.blockWeights === 0);
    for (const [done, format] of formats.entries()) {
      self.postMessage({ measuring: format.name, done, total: formats.length });
      self.postMessage({ row: bench.measure(format, rounds) });
    }
    self.postMessage({ done: true, variant: engine.variant });
  } catch (error) {
    self.postMessage({ error: errorToPlain(error) });
  }
};
