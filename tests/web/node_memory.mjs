// Bytes that the engine holds after each of 20 loads and disposals, with good and with damaged files between.
// usage: node node_memory.mjs MODEL.gguf [BEGINNING OF ITS TEXT]
import { readFileSync } from "node:fs";
import { Engine } from "../../web/engine.js";
import { LocalModel } from "../../web/local_model.js";

const engine = await Engine.load(readFileSync(new URL("../../web/ruvq.wasm", import.meta.url)));
const bytes = readFileSync(process.argv[2]);
const beginning = process.argv[3] ?? "";
const held = [];
let refused = 0;
for (let round = 0; round < 20; round += 1) {
  const model = LocalModel.fromBytes(engine, bytes, { hashes: true, verify: true });
  let text = "";
  for (const step of model.generate("Once upon a time", { maxTokens: 5, temperature: 0 })) text += step.text ?? "";
  if (!text.startsWith(beginning)) throw new Error(`wrote ${text}`);
  model.dispose();
  model.dispose();
  for (const damaged of [bytes.subarray(0, bytes.length - 1), bytes.subarray(0, 1000), bytes.subarray(0, 0)]) {
    try {
      LocalModel.fromBytes(engine, damaged);
    } catch {
      refused += 1;
    }
  }
  held.push(engine.memoryBytes);
}
console.log(JSON.stringify({ held, refused, fileBytes: bytes.length }));
