// Which build of the engine is taken. usage: node [--experimental-wasm-relaxed-simd] node_variants.mjs
import { readFileSync } from "node:fs";
import { FEATURES } from "../../web/features.js";
import { Engine } from "../../web/engine.js";
import { candidates, loadFirst } from "../../web/variants.js";

const bytes = (name) => readFileSync(new URL(`../../web/${name}`, import.meta.url));
const tried = [];
const variant = await loadFirst({ "relaxed-simd": "ruvq-relaxed.wasm", simd128: "ruvq.wasm" }, async (file, name) => {
  tried.push(name);
  await Engine.load(bytes(file)); // runs the self-test
  return name;
});
const names = (source) => candidates(source).map(({ name, source: from }) => [name, String(from)]);
console.log(JSON.stringify({
  relaxed: FEATURES.relaxedSimd(),
  tried,
  variant,
  single: names("https://host/a/ruvq.wasm?1"),
  threads: names(new URL("https://host/ruvq-threads.wasm")),
  other: names("https://host/my-ruvq.wasm"),
  module: candidates(bytes("ruvq.wasm")).map(({ name }) => name),
}));
