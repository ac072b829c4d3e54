// Encodes the integer-made weights of encoding.py with the WebAssembly module and prints SHA-256 by key.
// stdin: [{key, format, rows, width, seed}]; argument: the module.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

const { exports } = new WebAssembly.Instance(new WebAssembly.Module(readFileSync(process.argv[2])), {});
const ERROR_BYTES = 1024;
const MASK = (1n << 64n) - 1n;

function weights(count, seed) {
  const out = new Float32Array(count);
  let state = BigInt(seed);
  for (let i = 0; i < count; i++) {
    state = (state * 6364136223846793005n + 1442695040888963407n) & MASK;
    let sum = 0;
    for (const shift of [0n, 16n, 32n, 48n]) sum += Number((state >> shift) & 0xffffn) - 0x8000;
    out[i] = sum * (i % 97 === 0 ? 16 : 1) * 2 ** -20;
  }
  return out;
}

const result = {};
for (const { key, format, rows, width, seed } of JSON.parse(readFileSync(0, "utf8"))) {
  const scratchBytes = exports.rq_encode_scratch(format, width);
  const outBytes = rows * exports.rq_format_row_bytes(format, width);
  const source = weights(rows * width, seed);
  const error = exports.rq_alloc(ERROR_BYTES);
  const input = exports.rq_alloc(source.byteLength);
  const out = exports.rq_alloc(outBytes);
  const scratch = exports.rq_alloc(scratchBytes);
  new Float32Array(exports.memory.buffer, input, source.length).set(source);
  const code = exports.rq_encode(error, format, 0, input, 0, rows, width, out, scratch, scratch + scratchBytes);
  if (code < 0) throw new Error(`${key}: error ${code}`);
  result[key] = createHash("sha256").update(new Uint8Array(exports.memory.buffer, out, outBytes)).digest("hex");
  for (const memory of [scratch, out, input, error]) exports.rq_free(memory);
}
process.stdout.write(JSON.stringify(result));
