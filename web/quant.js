// quant.js: single matrices: quantize, dequantize, multiply, transform, compare. Await init() first.
import { CONSTANTS as C, STRUCTS } from "./abi.js";
import { UsageError } from "./errors.js";
import { formatNamed, kernels, readFloats, withFloats } from "./kernels.js";

const SCALE_RULES = {
  search: C.RQ_SCALE_DEFAULT, mse: C.RQ_SCALE_MSE, "mse-unsigned": C.RQ_SCALE_MSE_UNSIGNED,
  absmax: C.RQ_SCALE_ABSMAX, rms: C.RQ_SCALE_RMS, absmean: C.RQ_SCALE_ABSMEAN,
};
const PIECE_WEIGHTS = 1 << 20; // in the engine's memory at once

/**
 * A matrix in one of the formats; docs/formats.md says what the bytes mean.
 * @typedef {object} QuantizedTensor
 * @property {string} format @property {[number, number]} shape rows, weights in a row
 * @property {Uint8Array} data the rows, one after the other @property {number} bitsPerWeight all bytes over all weights
 */
/**
 * @typedef {object} Comparison
 * @property {number} mse mean squared difference @property {number} snrDb Infinity when equal
 * @property {number} spectralDistortionDb energy of the difference's 2-D spectrum over the original's, in dB
 * @property {number} cosine of the two as vectors
 * @property {number} outlierRetention mean of |b| / |a|, cut at 1, over the 1 % largest |a|
 */

/** @returns {Float32Array} */
function floats(numbers, what) {
  if (numbers instanceof Float32Array) return numbers;
  if (Array.isArray(numbers) || numbers instanceof Float64Array) return Float32Array.from(numbers);
  throw new UsageError("not a list of numbers", {
    subject: what, expected: "a Float32Array", actual: numbers?.constructor?.name ?? String(numbers),
  });
}

function rowsOf(count, width, what) {
  if (Number.isInteger(width) && width >= 1 && count >= width && count % width === 0) return count / width;
  throw new UsageError("the width doesn't divide the matrix", {
    subject: what, expected: `whole rows of ${width} numbers`, actual: `${count} numbers`,
  });
}

const rowBytes = (format, width) => kernels().call("rq_format_row_bytes", format.format, width);

/** Calls `body(first row, rows)` for pieces of a matrix that fit into memory. */
function inPieces(rows, width, body) {
  const step = Math.max(1, Math.floor(PIECE_WEIGHTS / width));
  for (let first = 0; first < rows; first += step) body(first, Math.min(step, rows - first));
}

/**
 * Quantizes a matrix; the same numbers give the same bytes on every host.
 * @param {Float32Array | number[]} weights row by row @param {string} format "pi-t3", "q8_0" ...
 * @param {{width?: number, k?: number, scale?: number | keyof typeof SCALE_RULES, importance?: Float32Array,
 *   effort?: number}} [options] `width`: weights in a row, default: all are one row; `k`: divisor of pi, 2 to 5;
 *   `scale`: how the scale is found, or the scale; `importance` (width): weights of the squared error; `effort`:
 *   for trellises, how far around the best scale the search goes
 * @returns {QuantizedTensor}
 * @throws {UsageError} @throws {DataError} NaN or infinity among the weights
 */
export function quantize(weights, format, { width, k = 0, scale = "search", importance, effort = 0 } = {}) {
  const core = kernels();
  const entry = formatNamed(format);
  if (!entry.writable) throw new UsageError("this format is read, not written", { subject: "format", actual: format });
  const data = floats(weights, "weights");
  const columns = width ?? data.length;
  const rows = rowsOf(data.length, columns, "weights");
  const settings = encodeOptions(k, scale, effort);
  const bytes = rowBytes(entry, columns);
  const out = new Uint8Array(rows * bytes);
  const scratchBytes = core.call("rq_encode_scratch", entry.format, columns);
  const weightsOf = importance ? floats(importance, "importance") : null;
  if (weightsOf && weightsOf.length !== columns) {
    throw new UsageError("importance is one number a column", {
      subject: "importance", expected: `${columns} numbers`, actual: `${weightsOf.length}`,
    });
  }
  const encode = (columnWeights) => inPieces(rows, columns, (first, count) => {
    withFloats(data.subarray(first * columns, (first + count) * columns), (source) =>
      core.withMemory(STRUCTS.rq_encode_options.size + count * bytes + scratchBytes + 64, (place) => {
        core.writeStruct("rq_encode_options", place, settings);
        const target = place + STRUCTS.rq_encode_options.size;
        const scratch = (target + count * bytes + 63) & ~63;
        core.call("rq_encode", entry.format, place, source, columnWeights, count, columns, target,
          scratch >>> 0, (scratch >>> 0) + scratchBytes);
        out.set(core.read(target, count * bytes), first * bytes);
      }));
  });
  if (weightsOf) withFloats(weightsOf, encode);
  else encode(0);
  return { format: entry.name, shape: [rows, columns], data: out, bitsPerWeight: (8 * out.length) / data.length };
}

function encodeOptions(k, scale, effort) {
  const given = typeof scale === "number";
  if (!given && !(scale in SCALE_RULES)) {
    throw new UsageError("unknown scale rule", {
      subject: "scale", expected: `a number, or one of ${Object.keys(SCALE_RULES).join(", ")}`, actual: String(scale),
    });
  }
  return { k, scale_rule: given ? C.RQ_SCALE_GIVEN : SCALE_RULES[scale], scale: given ? scale : 0, effort };
}

/** @param {QuantizedTensor} tensor @returns {[any, number, number, number]} format, rows, width, bytes of a row */
function checkTensor({ format, shape: [rows, width], data }) {
  const entry = formatNamed(format);
  const bytes = rowBytes(entry, width);
  if (data.length === rows * bytes) return [entry, rows, width, bytes];
  throw new UsageError("the data doesn't fit the shape", {
    subject: `${format} [${rows}, ${width}]`, expected: `${rows * bytes} bytes`, actual: `${data.length}`,
  });
}

/**
 * The weights of a quantized matrix.
 * @param {QuantizedTensor} tensor @returns {Float32Array} @throws {DataError} data that the format forbids
 */
export function dequantize(tensor) {
  const core = kernels();
  const [entry, rows, width, bytes] = checkTensor(tensor);
  const out = new Float32Array(rows * width);
  inPieces(rows, width, (first, count) => core.withMemory(count * bytes, (source) => {
    core.write(source, tensor.data.subarray(first * bytes, (first + count) * bytes));
    core.call("rq_check_rows", entry.format, source, count, width);
    core.withMemory(count * width * 4, (target) => {
      core.call("rq_decode", entry.format, source, count, width, target, C.RQ_SIMD);
      out.set(readFloats(target, count * width), first * width);
    });
  }));
  return out;
}

/**
 * W x as the engine computes it: x is quantized to int8 per block where W is quantized.
 * @param {QuantizedTensor} tensor @param {Float32Array | number[]} x (width) @returns {Float32Array} (rows)
 */
export function matvec(tensor, x) {
  const core = kernels();
  const [entry, rows, width, bytes] = checkTensor(tensor);
  const vector = floats(x, "x");
  rowsOf(vector.length, width, "x");
  const out = new Float32Array(rows);
  const scratchBytes = core.call("rq_matvec_scratch", entry.format, width);
  withFloats(vector, (right) => inPieces(rows, width, (first, count) =>
    core.withMemory(count * bytes, (source) => core.withMemory(count * 4, (target) =>
      core.withMemory(scratchBytes, (scratch) => {
        core.write(source, tensor.data.subarray(first * bytes, (first + count) * bytes));
        core.call("rq_matvec", entry.format, source, count, width, right, target, scratch, scratch + scratchBytes,
          C.RQ_SIMD);
        out.set(readFloats(target, count), first);
      })))));
  return out;
}

/**
 * Compares a matrix with the one it stands for.
 * @param {Float32Array | number[]} original @param {Float32Array | number[]} other
 * @param {{width?: number}} [options] numbers in a row @returns {Comparison}
 */
export function compare(original, other, { width } = {}) {
  const core = kernels();
  const a = floats(original, "original");
  const b = floats(other, "other");
  if (a.length !== b.length) {
    throw new UsageError("the sizes differ", { expected: `${a.length} numbers`, actual: `${b.length}` });
  }
  const columns = width ?? a.length;
  const rows = rowsOf(a.length, columns, "original");
  const scratchBytes = core.call("rq_compare_scratch", rows, columns);
  return withFloats(a, (left) => withFloats(b, (right) => core.withMemory(STRUCTS.rq_comparison.size, (out) =>
    core.withMemory(scratchBytes, (scratch) => {
      core.call("rq_compare", left, right, rows, columns, out, scratch, scratch + scratchBytes);
      const found = core.readStruct("rq_comparison", out);
      return {
        mse: found.mse, snrDb: found.snr_db, spectralDistortionDb: found.spectral_distortion_db, cosine: found.cosine,
        outlierRetention: found.outlier_retention,
      };
    }))));
}
