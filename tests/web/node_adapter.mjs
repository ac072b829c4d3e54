// Texts and hashes of a model with an adapter in Node.
// usage: node node_adapter.mjs MODEL.gguf ADAPTER.gguf SCALE TOKENS
import { readFileSync } from "node:fs";
import { Engine } from "../../web/engine.js";
import { LocalModel } from "../../web/local_model.js";

const [modelPath, adapterPath, scale, maxTokens] = process.argv.slice(2);
const engine = await Engine.load(readFileSync(new URL("../../web/ruvq.wasm", import.meta.url)));
const model = LocalModel.fromBytes(engine, readFileSync(modelPath), { kv: "f32", hashes: true });
const file = readFileSync(adapterPath);

function run() {
  let text = "";
  for (const step of model.generate("", { temperature: 0, maxTokens: Number(maxTokens) })) text += step.text ?? "";
  return { text, hashes: Array.from(model.hashes()) };
}

function refused(make) {
  try {
    make();
  } catch (error) {
    return [error.name, error.message];
  }
  return null;
}

const plain = run();
const adapter = model.loadAdapter(file, { scale: Number(scale) });
const adapted = run();
const refusals = [
  refused(() => model.loadAdapter(readFileSync(modelPath))),
  refused(() => LocalModel.fromBytes(engine, file)),
  refused(() => model.loadAdapter(file, { scale: NaN })),
  refused(() => model.loadAdapter(file.subarray(0, 200))),
];
const same = run();
const held = engine.memoryBytes;
adapter.setScale(0);
const zero = run();
for (let n = 0; n < 50; n += 1) {
  model.unloadAdapter();
  model.loadAdapter(file);
}
model.unloadAdapter(); // more than one is there
const after = run();
console.log(JSON.stringify({
  plain, adapted, same, zero, after, refusals, info: adapter.info, grown: engine.memoryBytes - held,
  left: model.adapters.size,
}));
