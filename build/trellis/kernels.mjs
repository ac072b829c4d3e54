// Times modules of kernels.c: node kernels.mjs '{"kernels": {"PATH": bytes of a block}, "rounds": 9}'
// Prints {PATH: the fastest round, in nanoseconds for 16 weights}. Rounds of all modules are interleaved.
import { readFileSync } from "node:fs";

const ROWS = 64;
const BLOCKS = 3;
const REPEATS = 60;
const WEIGHTS = 256;
const { kernels, rounds } = JSON.parse(process.argv[2]);
const runs = {};
for (const [path, blockBytes] of Object.entries(kernels)) {
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(readFileSync(path)));
  const tables = exports.__heap_base.value;
  const x = tables + 128;
  const data = x + BLOCKS * 512;
  const bytes = ROWS * BLOCKS * blockBytes;
  exports.memory.grow(Math.ceil((data + bytes) / 65536));
  const memory = new Uint8Array(exports.memory.buffer);
  for (let i = 0; i < 128; i++) memory[tables + i] = (i * 37) % 64;
  for (let i = 0; i < bytes; i++) memory[data + i] = (i * 2654435761) >>> 24;
  for (let i = 0; i < BLOCKS * 512; i++) memory[x + i] = (i * 40503) >>> 8;
  runs[path] = () => exports.products(tables, data, ROWS, BLOCKS, x);
}
const best = {};
for (let round = 0; round < rounds + 2; round++) {
  for (const [path, run] of Object.entries(runs)) {
    const start = performance.now();
    for (let i = 0; i < REPEATS; i++) run();
    const ns = ((performance.now() - start) * 1e6 * 16) / (REPEATS * ROWS * BLOCKS * WEIGHTS);
    // the first two let the compiler settle
    if (round >= 2) best[path] = Math.min(best[path] ?? Infinity, ns);
  }
}
console.log(JSON.stringify(best));
