// examine.js: what the JavaScript binding makes of the corpus, in Node and in a page.
import { RuvqError } from "../web/errors.js";
import { GgufFile } from "../web/gguf.js";
import { LocalModel, ModelLoader, finish } from "../web/local_model.js";
import { Tokenizer } from "../web/tokenizer.js";

/** The stages that the corpus knows, each with all before it. A safetensors file is nothing but no model here. */
function examine(engine, bytes, stage) {
  if (stage === "open") {
    LocalModel.fromBytes(engine, bytes, { verify: true }).dispose();
    return;
  }
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
    if (stage === "tokenizer") {
      const tokenizer = new Tokenizer(engine, file);
      tokenizer.decode(tokenizer.encode("ab, cd é"));
      tokenizer.dispose();
    }
  } finally {
    file.dispose();
  }
}

/**
 * @param {import("../web/engine.js").Engine} engine
 * @param {{file: string, stage: string}[]} index of write_corpus
 * @param {(file: string) => Uint8Array | Promise<Uint8Array>} read
 * @returns each entry with `found` (code, or null), `typed`, `name`, `message`, `seconds`
 */
export async function examineAll(engine, index, read) {
  const results = [];
  for (const entry of index) {
    const bytes = await read(entry.file);
    const begun = performance.now();
    const result = { ...entry, found: null, typed: true };
    try {
      examine(engine, bytes, entry.stage);
    } catch (error) {
      const { name, code, message, expected, actual } = error;
      const typed = error instanceof RuvqError && Boolean(expected && actual);
      Object.assign(result, { found: code, typed, name, message });
    }
    results.push({ ...result, seconds: (performance.now() - begun) / 1000 });
  }
  return { results, memoryBytes: engine.memoryBytes };
}
