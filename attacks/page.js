// page.js: the corpus in a page. Every file through the binding, and of each class the first that `Model.open` is to
// refuse through that public interface: in a worker, which must reject with the same error and be gone. Shards with
// names, and downloads, through `Model.fetch`.
import { Engine } from "../web/engine.js";
import { Model } from "../web/ruvq.js";
import { examineAll, judge } from "./examine.js";

/** @param {string} folder address that `write_corpus` has filled, with a slash at its end */
export async function run(folder) {
  const all = await (await fetch(`${folder}index.json`)).json();
  const index = all.filter(({ hosts, stage }) => hosts.includes("page") && stage !== "download");
  const read = async (file) => new Uint8Array(await (await fetch(address(folder, file))).arrayBuffer());
  const engine = await Engine.load(new URL("../web/ruvq.wasm", import.meta.url));
  const answer = await examineAll(engine, index.filter(({ stage }) => stage !== "named"), read);
  for (const entry of index.filter(({ stage }) => stage === "named")) {
    answer.results.push(await judge(entry, () => fetchModel(address(folder, entry.file), { cache: "no-store" })));
  }
  answer.opened = [];
  const seen = new Set();
  const whole = new Set(["parse", "model", "open", "safetensors"]); // the others are no models even when they are right
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

const address = (folder, file) => folder + file.split("/").map(encodeURIComponent).join("/");

/** @returns {Promise<string>} what the model told while it was loaded */
async function fetchModel(url, options) {
  const model = await Model.fetch(url, { threads: 1, verify: true, ...options });
  model.dispose();
  return model.notices.map(({ message }) => message).join("\n");
}

/** The answer to one download. */
globalThis.answerDownload = (entry) => judge(entry, () => fetchModel(`/${entry.file}`, entry.options));
