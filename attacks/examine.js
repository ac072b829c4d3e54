// examine.js: what the JavaScript binding makes of the corpus, in Node and in a page.
import { RuvqError } from "../web/errors.js";
import { GgufFile } from "../web/gguf.js";
import { LocalModel, finish } from "../web/local_model.js";
import { ModelLoader } from "../web/model_loader.js";
import { renderTemplate } from "../web/template.js";
import { Tokenizer } from "../web/tokenizer.js";

const MESSAGES = [{ role: "user", content: "Hello" }];

/** By stage: what is done with the bytes of a case's files. */
const STAGES = {
  parse: (engine, [bytes]) => withFile(engine, bytes, () => {}),
  verify: (engine, [bytes]) => withFile(engine, bytes, (file) => finish(file.check())),
  tokenizer: (engine, [bytes]) => withFile(engine, bytes, (file) => {
    const tokenizer = new Tokenizer(engine, file);
    tokenizer.decode(tokenizer.encode("ab, cd é"));
    tokenizer.dispose();
  }),
  model: (engine, [bytes]) => measure(engine, bytes),
  open: (engine, [bytes]) => LocalModel.fromBytes(engine, bytes, { verify: true }).dispose(),
  shards: (engine, files) => LocalModel.fromBytes(engine, files, { verify: true }).dispose(),
  template: (engine, [bytes]) => {
    const given = { messages: MESSAGES, tools: null, documents: null, add_generation_prompt: true };
    renderTemplate(new TextDecoder().decode(bytes), given);
  },
  safetensors: (engine, [bytes]) => withFile(engine, bytes, () => {}), // nothing but no model here
};

function withFile(engine, bytes, work) {
  const file = new GgufFile(engine, bytes.length);
  try {
    file.append(bytes);
    file.parse();
    file.tensors();
    work(file);
  } finally {
    file.dispose();
  }
}

function measure(engine, bytes) {
  const loader = new ModelLoader(engine);
  try {
    loader.begin(bytes.length);
    loader.write(bytes);
    loader._readHeader();
  } finally {
    loader.abandon();
  }
}

/** An entry of the index with `found` (code, or null), `typed`, `name`, `message`, `seconds`. */
export async function judge(entry, work) {
  const begun = performance.now();
  const result = { ...entry, found: null, typed: true, message: "" };
  try {
    result.message = (await work()) ?? "";
  } catch (error) {
    const { name, code, message, expected, actual } = error;
    const typed = error instanceof RuvqError && Boolean(expected && actual);
    Object.assign(result, { found: code, typed, name, message });
  }
  return { ...result, seconds: (performance.now() - begun) / 1000 };
}

/**
 * @param {import("../web/engine.js").Engine} engine
 * @param {{files: string[], stage: string}[]} index of write_corpus
 * @param {(file: string) => Uint8Array | Promise<Uint8Array>} read
 */
export async function examineAll(engine, index, read) {
  const results = [];
  for (const entry of index) {
    const files = [];
    for (const file of entry.files) files.push(await read(file));
    results.push(await judge(entry, () => STAGES[entry.stage](engine, files)));
  }
  return { results, memoryBytes: engine.memoryBytes };
}
