// Texts, log-probabilities and embeddings in Node. usage: node node_sampling.mjs MODEL.gguf '[options, ...]'
import { readFileSync } from "node:fs";
import { Engine } from "../../web/engine.js";
import { LocalModel, finish } from "../../web/local_model.js";

const [path, cases] = process.argv.slice(2);
const engine = await Engine.load(readFileSync(new URL("../../web/ruvq.wasm", import.meta.url)));
const model = LocalModel.fromBytes(engine, readFileSync(path), { kv: "f32" });

const texts = JSON.parse(cases).map((options) => {
  let text = "";
  const reports = [];
  const biases = Object.entries(options.logitBias ?? {});
  const logitBias = new Map(biases.map(([id, bias]) => [Number(id), bias ?? -Infinity]));
  for (const step of model.generate("Once upon a time", { ...options, logitBias })) {
    text += step.text ?? "";
    if (step.report) reports.push([step.report.id, step.report.logprob, step.report.top.map((t) => [t.id, t.logprob])]);
  }
  return { text, reports, cached: model.stats.cachedTokens };
});

const embedding = [...finish(model.embed("Once upon a time"))];
const plain = [...finish(model.embed("Once upon a time", { normalize: false }))];
const keys = model.file.metadataKeys();
const refused = [{ typicalP: 2 }, { repeatPenalty: 0 }, { logprobs: 257 }, { logitBias: { x: 1 } },
  { logitBias: { 99999: 1 } }, { penaltyTokens: 5000 }].map((options) => {
  try {
    return finish(model.generate("a", { maxTokens: 1, ...options })).finishReason;
  } catch (error) {
    return error.name;
  }
});
console.log(JSON.stringify({ texts, embedding, plain, keys, refused }));
