// bench-builds.js: products of rows in several builds of the engine, in turn, for build/bench/compare_builds.py.
// The least time counts: whatever else the machine does only adds to it.
import { CONSTANTS as C } from "./abi.js";

const fetched = async (url) => (await fetch(url)).arrayBuffer();

/** One format's rows in the memory of one build: a call, and the bits of its result. */
async function placed(module, { id, url, rows, width }) {
  const { instance } = await WebAssembly.instantiate(module, {});
  const { memory, rq_matvec: matvec, rq_matvec_scratch: scratchSize } = instance.exports;
  const data = new Uint8Array(await fetched(url));
  const x = Float32Array.from({ length: width }, (_, i) => Math.sin(i + 1) * ((i % 7) + 1));
  const scratchBytes = scratchSize(id, width);
  let end = memory.buffer.byteLength;
  memory.grow(Math.ceil((data.length + 4 * width + 4 * rows + scratchBytes + 256) / 65536));
  const take = (bytes) => {
    const start = (end + 63) & ~63;
    end = start + bytes;
    return start;
  };
  const [weights, vector, result, scratch] = [data.length, 4 * width, 4 * rows, scratchBytes].map(take);
  new Uint8Array(memory.buffer).set(data, weights);
  new Float32Array(memory.buffer).set(x, vector / 4);
  const call = () =>
    matvec(0, id, weights, rows, width, vector, result, scratch, scratch + scratchBytes, C.RQ_SIMD);
  return { call, bits: () => new Int32Array(memory.buffer, result, rows).join() };
}

/** @returns {Promise<Record<string, Record<string, number>>>} format and shape → build → ns a weight */
export async function compare({ builds, formats, rounds }) {
  const modules = {};
  for (const [name, url] of Object.entries(builds)) modules[name] = await fetched(url);
  const report = {};
  for (const format of formats) {
    const weights = format.rows * format.width;
    const repeats = Math.max(1, Math.round(2e6 / weights));
    const least = {};
    const runs = {};
    for (const name of Object.keys(modules)) runs[name] = await placed(modules[name], format);
    for (let round = 0; round < rounds; round += 1) {
      for (const [name, { call }] of Object.entries(runs)) {
        const start = performance.now();
        for (let i = 0; i < repeats; i += 1) call();
        least[name] = Math.min(least[name] ?? Infinity, ((performance.now() - start) * 1e6) / repeats / weights);
      }
    }
    const bits = new Set(Object.values(runs).map((run) => run.bits()));
    if (bits.size > 1) throw new Error(`${format.name}: the builds give different results`);
    report[`${format.name} ${format.rows}x${format.width}`] = least;
  }
  return report;
}
