// What the binding makes of sets of shards: text, or an error.
// usage: node shards_in_wasm.mjs INDEX.json, a list of {name, files}
import { readFileSync } from "node:fs";
import { Engine } from "../../web/engine.js";
import { LocalModel } from "../../web/local_model.js";

const engine = await Engine.load(readFileSync(new URL("../../web/ruvq.wasm", import.meta.url)));

/** Bytes that a new allocation of everything would find free: the same before and after, or something leaked. */
function held() {
  const probe = engine.alloc(1);
  engine.free(probe);
  return probe;
}

const before = held();
const results = JSON.parse(readFileSync(process.argv[2], "utf8")).map(({ name, files }) => {
  try {
    const model = LocalModel.fromBytes(engine, files.map((file) => readFileSync(file)), { verify: true });
    const text = [...model.generate("", { maxTokens: 20, temperature: 0 })].map((step) => step.text ?? "").join("");
    model.dispose();
    return { name, text, leaked: held() - before };
  } catch (error) {
    return { name, code: error.code, leaked: held() - before };
  }
});
console.log(JSON.stringify(results));
