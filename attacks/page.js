// page.js: the corpus in a page. Every file through the binding, and of each class the first that `Model.open` is to
// refuse through that public interface: in a worker, which must reject with the same error and be gone.
import { Engine } from "../web/engine.js";
import { Model } from "../web/ruvq.js";
import { examineAll } from "./examine.js";

/** @param {string} folder address that `write_corpus` has filled, with a slash at its end */
export async function run(folder) {
  const index = await (await fetch(`${folder}index.json`)).json();
  const read = async (file) => new Uint8Array(await (await fetch(folder + encodeURIComponent(file))).arrayBuffer());
  const engine = await Engine.load(new URL("../web/ruvq.wasm", import.meta.url));
  const answer = await examineAll(engine, index, read);
  answer.opened = [];
  const seen = new Set();
  // the others are no models even when they are right
  const whole = new Set(["parse", "model", "open", "safetensors", "onnx"]);
  for (const entry of index) {
    if (entry.code === null || seen.has(entry.attack) || !whole.has(entry.stage)) continue;
    seen.add(entry.attack);
    const options = { verify: true, threads: 1 };
    const found = await Model.open(await read(entry.file), options).then(
      (model) => { model.dispose(); return "nothing"; }, (error) => error.code);
    answer.opened.push({ ...entry, found });
  }
  return answer;
}
