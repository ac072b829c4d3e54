// Runs format functions of the WebAssembly module. usage: node run_wasm.mjs MODULE < jobs.json > results.json
// A job is {call: "decode" | "matvec" | "hadamard" | "self_test", ...}, bytes as hexadecimal; so is each result.
import { readFileSync } from "node:fs";

const { instance } = await WebAssembly.instantiate(readFileSync(process.argv[2]));
const core = instance.exports;
const bytes = (address, count) => new Uint8Array(core.memory.buffer, address, count);
const held = [];

function take(count) {
  const address = core.rq_alloc(count) >>> 0;
  if (!address) throw new Error(`no memory for ${count} bytes`);
  held.push(address);
  return address;
}

function place(hex) {
  const data = Buffer.from(hex, "hex");
  const address = take(data.length);
  bytes(address, data.length).set(data);
  return address;
}

const hex = (address, count) => Buffer.from(bytes(address, count)).toString("hex");

const calls = {
  decode({ format, data, rows, width, variant }) {
    const out = take(4 * rows * width);
    const code = core.rq_decode(0, format, place(data), rows, width, out, variant);
    return code < 0 ? code : hex(out, 4 * rows * width);
  },
  matvec({ format, data, rows, width, x, variant }) {
    const size = core.rq_matvec_scratch(format, width);
    const y = take(4 * rows);
    const scratch = take(size);
    const code = core.rq_matvec(0, format, place(data), rows, width, place(x), y, scratch, scratch + size, variant);
    return code < 0 ? code : hex(y, 4 * rows);
  },
  hadamard({ x, rows, width, inverse, variant }) {
    const address = place(x);
    const code = core.rq_hadamard(0, address, rows, width, 5, 6, inverse, variant);
    return code < 0 ? code : hex(address, 4 * rows * width);
  },
  self_test: () => core.rq_self_test(0),
};

const results = JSON.parse(readFileSync(0, "utf8")).map((job) => {
  const result = calls[job.call](job);
  while (held.length) core.rq_free(held.pop());
  return result;
});
process.stdout.write(JSON.stringify(results));
