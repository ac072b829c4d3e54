// Text and hashes of a model in Node. usage: node node_generate.mjs MODEL.gguf '{"open": {...}, "generate": {...}}'
import { readFileSync } from "node:fs";
import { Engine } from "../../web/engine.js";
import { LocalModel } from "../../web/local_model.js";

const [path, options] = process.argv.slice(2);
const { open, prompt = "", generate } = JSON.parse(options);
const engine = await Engine.load(readFileSync(new URL("../../web/ruvq.wasm", import.meta.url)));
const model = LocalModel.fromBytes(engine, readFileSync(path), open);
let text = "";
for (const step of model.generate(prompt, generate)) text += step.text ?? "";
const hashes = open.hashes ? Array.from(model.hashes()) : null;
console.log(JSON.stringify({ text, hashes, info: model.info, stats: model.stats }));
