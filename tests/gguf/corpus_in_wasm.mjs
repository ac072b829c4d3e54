// Runs the corpus of attacks.py through the WebAssembly module: the 32-bit build must answer like the native one.
// Usage: node corpus_in_wasm.mjs MODULE ABI FOLDER; prints one JSON object per case: {file, code}.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [modulePath, abiPath, folder] = process.argv.slice(2);
const { ERRORS, STRUCTS } = await import(pathToFileURL(abiPath));
const { exports: core } = new WebAssembly.Instance(new WebAssembly.Module(readFileSync(modulePath)), {});
const bytes = () => new Uint8Array(core.memory.buffer);
const unsigned = (address) => address >>> 0;

function place(data) {
  const address = unsigned(core.rq_alloc(Math.max(data.length, 1)));
  if (!address) throw new Error("no memory");
  bytes().set(data, address);
  return address;
}

function verify(error, index, data) {
  let code = core.rq_gguf_check_header(error, index, data);
  const count = new DataView(core.memory.buffer).getUint32(index + STRUCTS.rq_gguf.fields.tensor_count[0], true);
  for (let i = 0; i < count && code >= 0; i++) {
    const cursor = place(new Uint8Array(STRUCTS.rq_gguf_check.size));
    do code = core.rq_gguf_check_step(error, index, data, i, cursor);
    while (code === 1);
    core.rq_free(cursor);
  }
  return code;
}

function answer(error, data, length, stage) {
  const size = place(new Uint8Array(8));
  let code = core.rq_gguf_index_bytes(error, data, data + length, data + length, size);
  if (code !== 0) return code;
  const indexBytes = Number(new DataView(core.memory.buffer).getBigUint64(size, true));
  const index = place(new Uint8Array(indexBytes));
  code = core.rq_gguf_parse(error, data, data + length, data + length, index, index + indexBytes);
  if (code === 0 && stage === "verify") code = verify(error, index, data);
  if (code === 0 && stage === "model") {
    code = core.rq_model_measure(error, index, data, place(new Uint8Array(STRUCTS.rq_model_options.size)), size);
  }
  core.rq_free(index);
  core.rq_free(size);
  return code;
}

const error = place(new Uint8Array(STRUCTS.rq_error.size));
for (const entry of JSON.parse(readFileSync(join(folder, "index.json"), "utf8"))) {
  const data = readFileSync(join(folder, entry.file));
  const address = place(data);
  const code = answer(error, address, data.length, entry.stage);
  core.rq_free(address);
  console.log(JSON.stringify({ file: entry.file, code: code === 0 ? null : (ERRORS[code]?.[0] ?? code) }));
}
