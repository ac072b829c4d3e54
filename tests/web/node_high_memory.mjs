// Loads a model where all addresses are above 2^31, which JavaScript sees as negative numbers.
// usage: node node_high_memory.mjs MODEL.gguf
import { readFileSync } from "node:fs";
import { Engine } from "../../web/engine.js";
import { LocalModel } from "../../web/local_model.js";

const GIB = 2 ** 30;
const engine = await Engine.load(readFileSync(new URL("../../web/ruvq.wasm", import.meta.url)));
const below = engine.alloc(2 * GIB + 4096); // never touched, so the system gives no memory for it
const model = LocalModel.fromBytes(engine, readFileSync(process.argv[2]), { kv: "f32", hashes: true, verify: true });
let text = "";
for (const step of model.generate("", { temperature: 0, maxTokens: 60 })) text += step.text ?? "";
const hashes = Array.from(model.hashes());
const address = model.file.address;
model.dispose();
engine.free(below);
let refused = null;
try {
  engine.alloc(5 * GIB, "five gibibytes");
} catch (error) {
  refused = { name: error.name, subject: error.subject, expected: error.expected, hint: error.hint };
}
console.log(JSON.stringify({ address, text, hashes, refused }));
