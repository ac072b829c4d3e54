// Hashes of a model with several threads in Node, for each number of threads, each twice.
// usage: node node_threads.mjs MODEL.gguf '[2, 3]' '{"open": {...}, "generate": {...}}'
import { readFileSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { Engine } from "../../web/engine.js";
import { LocalModel } from "../../web/local_model.js";
import { Pool } from "../../web/threads.js";

const [path, counts, options] = process.argv.slice(2);
const { open, generate } = JSON.parse(options);
const web = (name) => new URL(`../../web/${name}`, import.meta.url);
const runs = [];
for (const threads of JSON.parse(counts)) {
  const engine = await Engine.load(readFileSync(web("ruvq-threads.wasm")), { shared: true });
  engine.pool = new Pool(engine, threads, { splitAll: true });
  engine.pool.start(web("pool-worker.js"), (url) => new Worker(url));
  await engine.pool.started;
  for (let round = 0; round < 2; round += 1) {
    const model = LocalModel.fromBytes(engine, readFileSync(path), open);
    let text = "";
    for (const step of model.generate("", generate)) text += step.text ?? "";
    runs.push({ text, hashes: Array.from(model.hashes()), threads: model.info.threads, note: engine.pool.note });
    model.dispose();
  }
  engine.pool.close();
}
console.log(JSON.stringify(runs));
