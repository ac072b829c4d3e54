// fuzz_template.mjs: the chat templates that JavaScript renders, by seeded mutation: no coverage, the same inputs in
// every run. A finding is any error but a TemplateError with what was expected and found, or HANG_SECONDS.
// usage: node --max-old-space-size=512 fuzz_template.mjs [-max_total_time=60] [-runs=100000] [-artifact_prefix=FOLDER/]
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { TemplateError } from "../../web/errors.js";
import { renderTemplate } from "../../web/template.js";

const HANG_SECONDS = 15; // templates are counted in steps: the slowest takes seconds where the machine is slow
const LONGEST = 8192;
const options = Object.fromEntries(process.argv.slice(2).map((word) => word.replace(/^-/, "").split("=")));
const { runs = -1, max_total_time: seconds = 60, artifact_prefix: prefix = "" } = options;

const here = (path) => new URL(path, import.meta.url);
const folder = here("../chat/templates/");
const corpus = readdirSync(folder).sort().map((name) => readFileSync(new URL(name, folder), "utf8"));
const words = readFileSync(here("template_words.txt"), "utf8").split("\n").filter(Boolean);
const variables = {
  messages: [
    { role: "system", content: "Be brief." }, { role: "user", content: "Hello <b>&amp;" },
    { role: "assistant", content: "", tool_calls: [{ function: { name: "f", arguments: { x: 1 } } }] },
    { role: "user", content: "é😀" },
  ],
  tools: [{ type: "function", function: { name: "f", parameters: { type: "object" } } }],
  documents: null, add_generation_prompt: true, bos_token: "<s>", eos_token: "</s>",
};

let state = 20260102;
/** A whole number from 0 to below `limit`: xorshift. */
function chance(limit) {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % limit;
}

const pick = (list) => list[chance(list.length)];

/** Some places changed, cut out, doubled, or words put in. */
function mutated(text) {
  let out = text;
  for (let n = 1 + chance(6); n > 0; n -= 1) {
    const [at, length] = [chance(out.length + 1), 1 + chance(24)];
    const from = chance(out.length + 1);
    const put = [String.fromCharCode(32 + chance(96)), "", out.slice(from, from + length), pick(words)][chance(4)];
    out = out.slice(0, at) + put + out.slice(put === "" ? at + length : at);
  }
  return out.slice(0, LONGEST);
}

function check(source) {
  const begun = performance.now();
  try {
    renderTemplate(source, variables);
  } catch (error) {
    if (!(error instanceof TemplateError && error.expected && error.actual)) throw error;
  }
  const took = (performance.now() - begun) / 1000;
  if (took > HANG_SECONDS) throw new Error(`took ${took} s`);
}

const begun = performance.now();
let tried = 0;
for (; tried !== Number(runs) && performance.now() - begun < seconds * 1000; tried += 1) {
  const source = mutated(pick(corpus));
  try {
    check(source);
  } catch (error) {
    writeFileSync(`${prefix}crash-${tried}`, source);
    throw error;
  }
}
console.log(`Done ${tried} runs in ${((performance.now() - begun) / 1000).toFixed(0)} second(s)`);
