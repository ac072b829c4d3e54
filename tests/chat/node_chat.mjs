// Chat in Node, for test_javascript.py and record.py. usage: node node_chat.mjs [WASM MODEL] < requests.json
// standard input: {renderings: [{source, variables}], prompts: [{messages, options}], answers: [{messages, options}]};
// standard output: the same lists, of {text}, {text, ids, endIds, stops}, {text, finishReason} or {error, message}.
import { readFileSync } from "node:fs";
import { answerOptions, chatPrompt } from "../../web/chat.js";
import { Engine } from "../../web/engine.js";
import { LocalModel } from "../../web/local_model.js";
import { renderTemplate } from "../../web/template.js";

const [wasm, file] = process.argv.slice(2);
const { renderings = [], prompts = [], answers = [] } = JSON.parse(readFileSync(0, "utf8"));
const model = wasm && LocalModel.fromBytes(await Engine.load(readFileSync(wasm)), readFileSync(file), { kv: "f32" });

async function each(requests, work) {
  const out = [];
  for (const request of requests) {
    try {
      out.push(await work(request));
    } catch (error) {
      out.push({ error: error.name, message: error.message });
    }
  }
  return out;
}

async function answer({ messages, options }) {
  const prompt = await chatPrompt(model, messages, options);
  let text = "";
  for (const step of model.generate(prompt.ids, answerOptions(model, prompt, options))) text += step.text ?? "";
  return { text, finishReason: model.stats.finishReason };
}

console.log(JSON.stringify({
  renderings: await each(renderings, ({ source, variables }) => ({ text: renderTemplate(source, variables) })),
  prompts: await each(prompts, ({ messages, options }) => chatPrompt(model, messages, options)),
  answers: await each(answers, answer),
}));
if (model) model.dispose();
