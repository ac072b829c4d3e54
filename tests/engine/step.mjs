// Steps a model in the WebAssembly module, without any of ruvq's JavaScript, and prints its hashes.
//   node step.mjs ruvq.wasm model.gguf FLAGS '[token, ...]'
import fs from "node:fs";

const [modulePath, modelPath, flags, tokens] = process.argv.slice(2);
const ids = JSON.parse(tokens);
const { instance } = await WebAssembly.instantiate(fs.readFileSync(modulePath), {});
const core = instance.exports;
const numbers = () => new DataView(core.memory.buffer);
const take = (bytes) => core.rq_alloc(bytes) >>> 0;
const error = take(1024);

function check(code, what) {
  if (code >= 0) return code;
  const text = new TextDecoder().decode(new Uint8Array(core.memory.buffer, error + 4, 708));
  throw new Error(`${what}: ${code} ${text.replace(/\0+/g, " | ")}`);
}

check(core.rq_self_test(error), "self test");
const file = fs.readFileSync(modelPath);
const data = take(file.length);
new Uint8Array(core.memory.buffer, data, file.length).set(file);
const end = data + file.length;
const size = take(8);
check(core.rq_gguf_index_bytes(error, data, end, end, size), "index size");
const indexBytes = numbers().getUint32(size, true);
const index = take(indexBytes);
check(core.rq_gguf_parse(error, data, end, end, index, index + indexBytes), "parse");

const options = take(16); // rq_model_options
[0, 0, Number(flags), 0].forEach((value, i) => numbers().setInt32(options + 4 * i, value, true));
check(core.rq_model_measure(error, index, data, options, size), "measure");
const modelBytes = numbers().getUint32(size, true);
const model = take(modelBytes);
check(core.rq_model_open(error, index, data, options, model, model + modelBytes), "open");

const waiting = take(4 * ids.length);
ids.forEach((id, i) => numbers().setInt32(waiting + 4 * i, id, true));
check(core.rq_model_feed(error, model, waiting, ids.length), "feed");
while (check(core.rq_model_step(error, model), "step") > 0);

const info = take(256);
check(core.rq_model_describe(model, info), "describe");
const layers = numbers().getInt32(info + 8, true);
const hashes = core.rq_model_hashes(model) >>> 0;
console.log(JSON.stringify(Array.from({ length: layers + 2 }, (_, i) => numbers().getUint32(hashes + 4 * i, true))));
