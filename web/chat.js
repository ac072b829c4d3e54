// chat.js: messages to the tokens that a model continues, by the chat template in its file. The rules are those of
// Python's ruvq.chat: nothing is assumed where a file has no template, and only the template places special tokens;
// what a message spells out is text.
import { ContextFullError, TemplateError, UsageError } from "./errors.js";

/** @typedef {{role: string, content?: unknown, [key: string]: unknown}} Message */
/**
 * @typedef {object} ChatOptions beside those of `generate`
 * @property {object[]} [tools] JSON schemas, for templates that know them
 * @property {string} [template] Jinja, or the name of a template in the file, instead of the file's own
 * @property {Record<string, unknown>} [variables] what else the template asks for, {enable_thinking: false} for one
 * @property {number} [maxTokens] of the answer; default: as many as the context leaves
 */
/** @typedef {{text: string, ids: number[], endIds: number[], stops: string[]}} ChatPrompt */

const KEY = "tokenizer.chat_template";
const MAX_DEPTH = 32;
const ROLE = /^[A-Za-z_][A-Za-z0-9_-]{0,63}$/;
const [UNKNOWN, CONTROL] = [2, 3]; // tokenizer.ggml.token_type of tokens that text can't give
const [FIRST_GUARD, LAST_GUARD] = [0xe000, 0xf8ff]; // private use
const PROBE = "ruvq0probe";

/**
 * What `chat` lets a model continue: the rendered text, its ids, and what ends the answer.
 * @param {import("./local_model.js").LocalModel} model @param {Message[]} messages
 * @param {ChatOptions & {addGenerationPrompt?: boolean}} [options]
 * @returns {Promise<ChatPrompt>} @throws {TemplateError | UsageError}
 */
export async function chatPrompt(model, messages, options = {}) {
  const { renderTemplate } = await import("./template.js"); // only pages that chat load it
  const { tools, template, variables = {}, addGenerationPrompt = true } = options;
  const source = chooseTemplate(model.file, template, Boolean(tools?.length));
  const special = (model.specialTokens ??= specialTokens(model));
  const guard = unusedCharacter([messages, tools, variables, source]);
  const change = guarding(special, guard);
  const render = (given, add, changed) => renderTemplate(source, {
    ...specialTexts(model.tokenizer), documents: null, ...plain(variables, changed, "variables"),
    messages: checkMessages(given, changed), tools: tools?.length ? plain(tools, changed, "tools") : null,
    add_generation_prompt: add,
  });
  const text = render(messages, addGenerationPrompt, change);
  return {
    text: text.replaceAll(guard, ""),
    ids: encode(model.tokenizer, special, text, guard),
    ...turnEnd(special, render),
  };
}

/** Options for `generate` on a rendered conversation. @throws {ContextFullError} when no room is left */
export function answerOptions(model, prompt, { maxTokens, stop = [], ...options }) {
  const left = model.info.context - prompt.ids.length;
  if (left < 1) {
    throw new ContextFullError("the conversation has outgrown the context", {
      subject: "messages", expected: `at most ${model.info.context - 1} tokens, and room for an answer`,
      actual: `${prompt.ids.length} tokens`, code: "RQ_E_CONTEXT",
      hint: "leave out the oldest turns, or load the model with a longer context",
    });
  }
  const stops = [...(Array.isArray(stop) ? stop : [stop]), ...prompt.stops];
  for (const name of ["tools", "template", "variables"]) delete options[name]; // of the template
  return { ...options, maxTokens: maxTokens ?? left, stop: stops, endIds: prompt.endIds };
}

// ---- the template ----

function chooseTemplate(file, wanted, tools) {
  const named = (file.array("tokenizer.chat_templates") ?? []).map((name) => [name, `${KEY}.${name}`]);
  const keys = Object.fromEntries([["default", KEY], ...named].filter(([, key]) => file.metadata(key) !== undefined));
  if (wanted !== undefined && !(wanted in keys)) {
    if (typeof wanted === "string" && /\{\{|\{%/.test(wanted)) return wanted;
    throw new TemplateError("the file has no chat template of this name", {
      subject: String(wanted).slice(0, 60),
      expected: [...Object.keys(keys), "the text of a Jinja template"].join(" or "),
    });
  }
  const name = wanted ?? (tools && "tool_use" in keys ? "tool_use" : "default");
  const source = name in keys ? file.metadata(keys[name]) : "";
  if (typeof source === "string" && source) return source;
  throw new TemplateError("the file has no chat template", {
    subject: KEY, expected: "a template in the file, or the option `template`",
    actual: Object.keys(keys).length ? `templates named ${Object.keys(keys).join(", ")}` : "none",
    hint: "pass `template`, the Jinja text of this model's chat_template.jinja or tokenizer_config.json; another "
      + "model's would give bad answers",
  });
}

/** What the template writes behind an answer: the id of a special token, or else a text. */
function turnEnd(special, render) {
  const probe = [{ role: "user", content: `${PROBE}1` }, { role: "assistant", content: `${PROBE}2` }];
  let text;
  try {
    text = render(probe, false, undefined);
  } catch (error) {
    if (error instanceof TemplateError) return { endIds: [], stops: [] }; // only the vocabulary's own ends remain
    throw error;
  }
  const after = text.slice(text.lastIndexOf(`${PROBE}2`) + PROBE.length + 1).trim();
  const match = special.size ? after.match(pattern(special.keys())) : null;
  if (match?.index === 0) return { endIds: [special.get(match[0])], stops: [] };
  return { endIds: [], stops: after ? [after] : [] };
}

// ---- tokens ----

/** Texts of the tokens that text can't give → ids. @returns {Map<string, number>} */
function specialTokens({ file, tokenizer }) {
  const types = file.array("tokenizer.ggml.token_type");
  const text = new TextDecoder();
  const special = new Map();
  for (let id = 0; id < tokenizer.info.vocab_size; id += 1) {
    const given = types ? ![UNKNOWN, CONTROL].includes(types[id]) : tokenizer.bytesOf(id).length > 0;
    const spelled = given ? "" : text.decode(tokenizer.bytesOf(id, true));
    if (spelled) special.set(spelled, id);
  }
  return special;
}

function specialTexts(tokenizer) {
  const { bos, eos, unknown, padding } = tokenizer.info;
  const ids = { bos_token: bos, eos_token: eos, unk_token: unknown, pad_token: padding };
  const text = (id) => new TextDecoder().decode(tokenizer.bytesOf(id, true));
  return Object.fromEntries(Object.entries(ids).filter(([, id]) => id >= 0).map(([name, id]) => [name, text(id)]));
}

function encode(tokenizer, special, text, guard) {
  const ids = [];
  let last = 0;
  for (const match of special.size ? text.matchAll(pattern(special.keys())) : []) {
    ids.push(...tokenizer.encode(text.slice(last, match.index).replaceAll(guard, "")), special.get(match[0]));
    last = match.index + match[0].length;
  }
  ids.push(...tokenizer.encode(text.slice(last).replaceAll(guard, "")));
  return ids;
}

/** The longest of some texts at the leftmost place. */
function pattern(texts) {
  const escaped = Array.from(texts).sort((a, b) => b.length - a.length)
    .map((text) => text.replace(/[.*+?^${}()|[\]\\/-]/g, "\\$&"));
  return new RegExp(escaped.join("|"), "g");
}

// ---- guards: characters that break special tokens inside messages, taken out again after rendering ----

function unusedCharacter(values) {
  const seen = new Set(JSON.stringify(values).match(/[\ue000-\uf8ff]/g));
  for (let code = FIRST_GUARD; code <= LAST_GUARD; code += 1) {
    if (!seen.has(String.fromCharCode(code))) return String.fromCharCode(code);
  }
  throw new TemplateError("the messages use every character of private use", { hint: "leave one of them out" });
}

/** Breaks special tokens in a text, and ends of it that could be a part of one beside the template's text. */
function guarding(special, guard) {
  const texts = Array.from(special.keys()).filter((text) => text.length > 1);
  if (texts.length === 0) return undefined;
  const whole = pattern(texts);
  const cuts = (cut) => [...new Set(texts.flatMap((t) => Array.from({ length: t.length - 2 }, (_, i) => cut(t, i))))];
  const tails = cuts((text, i) => text.slice(i + 1));
  const heads = cuts((text, i) => text.slice(0, i + 2));
  return (text) => {
    let out = text;
    while (out.search(whole) >= 0) out = out.replace(whole, (token) => token[0] + guard + token.slice(1));
    const begin = out.length - out.trimStart().length;
    const end = out.trimEnd().length;
    const inside = out.slice(begin, end);
    if (heads.some((head) => inside.endsWith(head))) out = out.slice(0, end - 1) + guard + out.slice(end - 1);
    if (tails.some((tail) => inside.startsWith(tail))) out = out.slice(0, begin + 1) + guard + out.slice(begin + 1);
    return out;
  };
}

// ---- messages ----

function checkMessages(messages, change) {
  if (!Array.isArray(messages) || messages.length === 0) {
    throw new UsageError("there are no messages", {
      subject: "messages", expected: 'a list like [{"role": "user", "content": "Hello"}]',
      actual: Array.isArray(messages) ? "an empty list" : typeof messages,
    });
  }
  return messages.map((message, number) => {
    const subject = `messages[${number}]`;
    const { role, ...body } = message ?? {};
    if (typeof role !== "string" || !ROLE.test(role)) {
      throw new UsageError("a message has no usable role", {
        subject, expected: "a role such as system, user, assistant or tool", actual: String(role).slice(0, 60),
      });
    }
    if (!("content" in body) && !body.tool_calls) {
      throw new UsageError("a message has no content", { subject, expected: "content" });
    }
    return { role, ...plain(body, change, subject) };
  });
}

/** A copy of what JSON could hold, with `change` applied to its texts. */
function plain(value, change, subject, depth = 0) {
  if (typeof value === "string") return change ? change(value) : value;
  if (value === null || typeof value === "boolean" || Number.isFinite(value)) return value;
  if (depth < MAX_DEPTH && Array.isArray(value)) return value.map((v) => plain(v, change, subject, depth + 1));
  if (depth < MAX_DEPTH && Object.getPrototypeOf(value ?? 0) === Object.prototype) {
    const entries = Object.entries(value).filter(([, v]) => v !== undefined);
    return Object.fromEntries(entries.map(([k, v]) => [change ? change(k) : k, plain(v, change, subject, depth + 1)]));
  }
  throw new UsageError("messages hold only what JSON can hold", {
    subject, expected: `texts, numbers, lists and plain objects, ${MAX_DEPTH} deep at most`, actual: typeof value,
  });
}
