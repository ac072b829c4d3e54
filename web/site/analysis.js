// analysis.js: what the plots of the quantize view show, from samples of weights and what they decode to: how both
// are spread, in units of the matrix's root mean square, and the spectra of the weights and of the error.
const REACH = 4; // root mean squares
const BINS = 160;
const SEGMENT = 256; // weights of a row, transformed at a time
const SPECTRUM_BINS = SEGMENT / 2;

/** In place: the Fourier transform of 2^n complex numbers. @param {Float64Array} re @param {Float64Array} im */
export function fourier(re, im) {
  const n = re.length;
  for (let i = 1, j = 0; i < n; i += 1) {
    let bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      [re[i], re[j]] = [re[j], re[i]];
      [im[i], im[j]] = [im[j], im[i]];
    }
  }
  for (let size = 2; size <= n; size *= 2) {
    const turn = (-2 * Math.PI) / size;
    for (let k = 0; k < size / 2; k += 1) {
      const [c, s] = [Math.cos(turn * k), Math.sin(turn * k)];
      for (let a = k; a < n; a += size) {
        const b = a + size / 2;
        const [x, y] = [re[b] * c - im[b] * s, re[b] * s + im[b] * c];
        [re[b], im[b]] = [re[a] - x, im[a] - y];
        [re[a], im[a]] = [re[a] + x, im[a] + y];
      }
    }
  }
}

export class Analysis {
  constructor() {
    this._weights = new Float64Array(BINS);
    this._decoded = new Float64Array(BINS);
    this._signal = new Float64Array(SPECTRUM_BINS);
    this._error = new Float64Array(SPECTRUM_BINS);
  }

  /** @param {number} width of a row @param {Float32Array} weights whole rows @param {Float32Array} decoded */
  add(width, weights, decoded) {
    const rms = Math.sqrt(weights.reduce((sum, w) => sum + w * w, 0) / weights.length);
    if (!(rms > 0)) return;
    count(this._weights, weights, rms);
    count(this._decoded, decoded, rms);
    for (let row = 0; row + width <= weights.length; row += width) {
      for (let at = row; at + SEGMENT <= row + width; at += SEGMENT) {
        addPower(this._signal, (i) => weights[at + i] / rms);
        addPower(this._error, (i) => (weights[at + i] - decoded[at + i]) / rms);
      }
    }
  }

  /** Shares of all weights by bin, and the spectra in dB over the weights' mean power; null where all rows are
   * shorter than a segment. */
  result() {
    const share = (bins) => {
      const all = bins.reduce((sum, n) => sum + n, 0) || 1;
      return Array.from(bins, (n) => n / all);
    };
    const mean = this._signal.reduce((sum, p) => sum + p, 0) / SPECTRUM_BINS;
    const decibels = (power) => Array.from(power, (p) => 10 * Math.log10(Math.max(p / mean, 1e-12)));
    return {
      histogram: { reach: REACH, weights: share(this._weights), decoded: share(this._decoded) },
      spectrum: mean > 0 ? { signal: decibels(this._signal), error: decibels(this._error) } : null,
    };
  }
}

function count(bins, values, rms) {
  for (const value of values) {
    const bin = Math.floor(((value / rms + REACH) / (2 * REACH)) * BINS);
    if (bin >= 0 && bin < BINS) bins[bin] += 1;
  }
}

function addPower(power, value) {
  const re = Float64Array.from({ length: SEGMENT }, (_, i) => value(i));
  const im = new Float64Array(SEGMENT);
  fourier(re, im);
  for (let k = 0; k < SPECTRUM_BINS; k += 1) power[k] += re[k] ** 2 + im[k] ** 2;
}
