// What the binding makes of every file of the corpus: an error's class and code, or none.
// usage: node node_attacks.mjs FOLDER, which `python tests/gguf/attacks.py FOLDER` has filled
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Engine } from "../../web/engine.js";
import { RuvqError } from "../../web/errors.js";
import { GgufFile } from "../../web/gguf.js";
import { ModelLoader, finish } from "../../web/local_model.js";

const folder = process.argv[2];
const engine = await Engine.load(readFileSync(new URL("../../web/ruvq.wasm", import.meta.url)));

/** The stages that the corpus knows, each with all before it. */
function examine(bytes, stage) {
  if (stage === "model") {
    const loader = new ModelLoader(engine);
    try {
      loader.begin(bytes.length);
      loader.write(bytes);
      loader._readHeader();
    } finally {
      loader.abandon();
    }
    return;
  }
  const file = new GgufFile(engine, bytes.length);
  try {
    file.append(bytes);
    file.parse();
    file.tensors();
    if (stage === "verify") finish(file.check());
  } finally {
    file.dispose();
  }
}

const results = JSON.parse(readFileSync(join(folder, "index.json"), "utf8")).map((entry) => {
  try {
    examine(readFileSync(join(folder, entry.file)), entry.stage);
    return { ...entry, name: null, found: null };
  } catch (error) {
    const { name, code, message, hint, subject } = error;
    return { ...entry, name, found: code, message, hint, subject, typed: error instanceof RuvqError };
  }
});
console.log(JSON.stringify({ results, memoryBytes: engine.memoryBytes }));
