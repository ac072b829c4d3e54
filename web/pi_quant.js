// pi_quant.js: the scalar pi grids as objects, and a small benchmark of the formats. Await init() first.
import { UsageError } from "./errors.js";
import { formatNamed, formats } from "./kernels.js";
import { compare, dequantize, matvec, quantize } from "./quant.js";

const DEFAULT_K = { 3: 4, 2: 3 };

/** A grid of 2^bits levels whose step is alpha pi / k: the formats pi-q3 and pi-q2. */
export class PiQuantWasm {
  /** @param {2 | 3} bits @param {number} [k] 2 to 5; default 4 for 3 bits, 3 for 2 */
  constructor(bits, k = DEFAULT_K[bits]) {
    if (!(bits in DEFAULT_K)) {
      throw new UsageError("no such grid", { subject: "bits", expected: "2 or 3", actual: String(bits) });
    }
    if (!Number.isInteger(k) || k < 2 || k > 5) {
      throw new UsageError("no such divisor of pi", { subject: "k", expected: "2, 3, 4 or 5", actual: String(k) });
    }
    this.bits = bits;
    this.k = k;
    this.format = `pi-q${bits}`;
  }

  /** Of full blocks, the scale included. */
  get bitsPerWeight() {
    const { block_bytes: bytes, block_weights: weights } = formatNamed(this.format);
    return (8 * bytes) / weights;
  }

  /** The distance of two levels where alpha is 1: pi / k. */
  get stepSize() {
    return Math.PI / this.k;
  }

  /** @param {Float32Array | number[]} weights @param {{width?: number, scale?: number | string}} [options]
   * @returns {import("./quant.js").QuantizedTensor} */
  quantize(weights, options = {}) {
    return quantize(weights, this.format, { ...options, k: this.k });
  }

  /** @param {import("./quant.js").QuantizedTensor} tensor @returns {Float32Array} */
  dequantize(tensor) {
    return dequantize(tensor);
  }

  _comparison(weights, options) {
    const tensor = this.quantize(weights, options);
    return compare(weights, dequantize(tensor), { width: tensor.shape[1] });
  }

  /** Mean squared error that quantizing makes. @param {Float32Array | number[]} weights
   * @param {{width?: number, scale?: number | string}} [options] */
  computeMse(weights, options) {
    return this._comparison(weights, options).mse;
  }

  /** Energy of that error's 2-D spectrum over that of the weights, in dB. @param {Float32Array | number[]} weights
   * @param {{width?: number, scale?: number | string}} [options] */
  spectralDistortion(weights, options) {
    return this._comparison(weights, options).spectralDistortionDb;
  }

  /** @returns {string} */
  toJson() {
    return JSON.stringify({ bits: this.bits, k: this.k });
  }

  /** @param {string} text of toJson @returns {PiQuantWasm} */
  static fromJson(text) {
    let fields;
    try {
      fields = JSON.parse(text);
    } catch (error) {
      throw new UsageError("not the JSON of a grid", { expected: '{"bits": 3, "k": 4}', actual: error.message });
    }
    return new PiQuantWasm(fields?.bits, fields?.k);
  }
}

/**
 * @typedef {object} BenchResult
 * @property {string} format @property {number} bitsPerWeight @property {number} mse @property {number} snrDb
 * @property {number} spectralDistortionDb
 * @property {number} encodeMillions @property {number} decodeMillions @property {number} productMillions millions of
 *   weights a second: quantized, decoded, multiplied
 */

/** Speed and error of the formats on this device, on one thread, on random weights. */
export class QuantBenchWasm {
  /** @param {{rows?: number, width?: number, seed?: number, milliseconds?: number}} [options] the matrix, and how
   * long each measurement takes at least */
  constructor({ rows = 64, width = 512, seed = 1, milliseconds = 50 } = {}) {
    Object.assign(this, { rows, width, milliseconds });
    this.weights = gaussian(rows * width, seed);
    this._x = gaussian(width, seed + 1);
  }

  /** @param {string} format @returns {BenchResult} */
  runBench(format) {
    const { width, weights } = this;
    const tensor = quantize(weights, format, { width });
    const { mse, snrDb, spectralDistortionDb } = compare(weights, dequantize(tensor), { width });
    return {
      format, bitsPerWeight: tensor.bitsPerWeight, mse, snrDb, spectralDistortionDb,
      encodeMillions: this._speed(() => quantize(weights, format, { width })),
      decodeMillions: this._speed(() => dequantize(tensor)),
      productMillions: this._speed(() => matvec(tensor, this._x)),
    };
  }

  /** @param {string[]} [names] default: all formats that are written and take this width
   * @returns {BenchResult[]} the best signal-to-noise ratio first */
  compareFormats(names = formats().filter((f) => f.writable && (f.any_width || this.width % f.block_weights === 0))
    .map((f) => f.name)) {
    return names.map((name) => this.runBench(name)).sort((a, b) => b.snrDb - a.snrDb);
  }

  /** Millions of weights a second: the fastest of several runs. */
  _speed(work) {
    let best = Infinity;
    const started = performance.now();
    do {
      const begun = performance.now();
      work();
      best = Math.min(best, performance.now() - begun);
    } while (performance.now() - started < this.milliseconds);
    return (this.rows * this.width) / 1e3 / Math.max(best, 1e-3);
  }
}

/** Numbers of a normal distribution from a small generator. @returns {Float32Array} */
function gaussian(count, seed) {
  let state = seed >>> 0;
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 1) / 2 ** 32;
  };
  return Float32Array.from({ length: count }, () =>
    Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()));
}
