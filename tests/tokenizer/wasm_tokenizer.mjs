// Encodes and decodes texts with the WebAssembly core: {module, vocabulary, texts} on standard input gives
// [{ids, special, text}] on standard output.
import { readFileSync } from "node:fs";
import { Engine } from "../../web/engine.js";
import { GgufFile } from "../../web/gguf.js";
import { Tokenizer } from "../../web/tokenizer.js";

const { module, vocabulary, texts } = JSON.parse(readFileSync(0, "utf-8"));
const engine = await Engine.load(readFileSync(module));
const bytes = readFileSync(vocabulary);
const file = new GgufFile(engine, bytes.length);
file.append(bytes);
if (!file.parse()) throw new Error("the vocabulary's header is cut off");
const tokenizer = new Tokenizer(engine, file);
const answers = texts.map((text) => {
  const ids = tokenizer.encode(text);
  const special = tokenizer.encode(text, { special: true, parseSpecial: true });
  return { ids, special, text: tokenizer.decode(ids) };
});
process.stdout.write(JSON.stringify(answers));
