// generate.js: the loop prompt → token → token, one short step at a time, so that whoever drives it can stop
// between any two tokens. Synchronous; the same loop serves the worker, Node and the tests.
import { UsageError } from "./errors.js";
import { TextDecoderOfTokens } from "./tokenizer.js";

/**
 * @typedef {object} GenerateOptions
 * @property {number} [maxTokens] default 256
 * @property {number} [temperature] 0: always the likeliest token; default 0.8
 * @property {number} [topP] sample from the likeliest tokens of this total probability; 1: off; default 0.95
 * @property {number} [topK] sample from this many tokens; 0: off
 * @property {number} [minP] drop tokens less likely than this fraction of the likeliest; 0: off
 * @property {number | bigint} [seed] the same seed gives the same text on every host; default: a random one
 * @property {string | string[]} [stop] end before any of these texts
 */

/**
 * @typedef {object} GenerateStats
 * @property {number} promptTokens
 * @property {number} promptSeconds
 * @property {number} tokens generated
 * @property {number} seconds spent on them after the prompt
 * @property {number} tokensPerSecond
 * @property {number | null} timeToFirstToken seconds, null when there was none
 * @property {string} seed
 * @property {"stop" | "length" | "context" | "aborted"} finishReason "stop": an end token or a stop
 *   text; "length": maxTokens; "context": the context is full
 */

const seconds = () => performance.now() / 1000;

/**
 * Yields {kind: "prompt", done, total} while the prompt is computed and {kind: "token", id, text} for every
 * token; `text` may be empty where a character or a stop text is unfinished. A last {kind: "rest", text} holds
 * what was held back. Returns the stats, which `model.stats` holds too; closing the generator early is an abort.
 * @param {object} model a LocalModel @param {string | number[]} prompt text, or ids as they are
 * @param {GenerateOptions & {endIds?: number[]}} [options] `endIds`: more ids that end the text
 */
export function* generate(model, prompt, options = {}) {
  const { maxTokens, stop, sampling } = checkOptions(options);
  const ids = typeof prompt === "string" ? promptTokens(model.tokenizer, prompt) : prompt;
  const ends = new Set(options.endIds);
  const started = seconds();
  const stats = (model.stats = {
    promptTokens: ids.length, promptSeconds: 0, tokens: 0, seconds: 0, tokensPerSecond: 0, timeToFirstToken: null,
    seed: String(sampling.seed), finishReason: null,
  });
  try {
    model.startSampler(sampling);
    model.truncate(0);
    model.feed(ids);
    for (let waiting = ids.length; waiting > 0; ) {
      waiting = model.step();
      yield { kind: "prompt", done: ids.length - waiting, total: ids.length };
    }
    stats.promptSeconds = seconds() - started;

    const text = new TextDecoderOfTokens(model.tokenizer, false, prompt === "");
    const scanner = new StopScanner(stop);
    const decodingStarted = seconds();
    let reason = maxTokens === 0 ? "length" : null;
    for (let last = null; reason === null; ) {
      if (last !== null) {
        model.feed([last]);
        model.step();
      }
      const id = (last = model.sample());
      stats.tokens += 1;
      const end = model.tokenizer.isEnd(id) || ends.has(id);
      const piece = end ? "" : scanner.push(text.push(id));
      if (end || scanner.found) reason = "stop";
      else if (stats.tokens >= maxTokens) reason = "length";
      else if (model.position >= model.info.context) reason = "context";
      stats.timeToFirstToken ??= seconds() - started;
      stats.seconds = seconds() - decodingStarted;
      stats.tokensPerSecond = stats.tokens / Math.max(stats.seconds, 1e-9);
      yield { kind: "token", id, text: piece };
    }
    yield { kind: "rest", text: scanner.push(text.flush()) + scanner.flush() };
    stats.finishReason = reason;
  } finally {
    stats.finishReason ??= "aborted"; // closed between two steps, or an error
  }
  return stats;
}

function promptTokens(tokenizer, prompt) {
  const { bos, add_bos: addBos } = tokenizer.info;
  const ids = [...(addBos && bos >= 0 ? [bos] : []), ...tokenizer.encode(prompt)];
  if (ids.length > 0) return ids;
  throw new UsageError("nothing to continue: the prompt is empty and the vocabulary has no token for the beginning", {
    subject: "prompt", expected: "at least one token", actual: "none", hint: "give a prompt",
  });
}

/** Text that may be the beginning of a stop text is held back until that is clear. */
export class StopScanner {
  /** @param {string[]} stops */
  constructor(stops) {
    this.stops = stops;
    this.found = false;
    this._held = "";
  }

  /** @param {string} text @returns {string} what can be shown; after `found` nothing more comes */
  push(text) {
    if (this.found) return "";
    this._held += text;
    const hits = this.stops.map((stop) => this._held.indexOf(stop)).filter((at) => at >= 0);
    if (hits.length > 0) {
      this.found = true;
      return this._held.slice(0, Math.min(...hits));
    }
    const keep = Math.max(0, ...this.stops.map((stop) => overlap(this._held, stop)));
    const shown = this._held.slice(0, this._held.length - keep);
    this._held = this._held.slice(this._held.length - keep);
    return shown;
  }

  /** What was held back, at the end. */
  flush() {
    const rest = this._held;
    this._held = "";
    return this.found ? "" : rest;
  }
}

/** Length of the longest end of `text` that begins `stop`. */
function overlap(text, stop) {
  for (let n = Math.min(text.length, stop.length - 1); n > 0; n -= 1) {
    if (text.endsWith(stop.slice(0, n))) return n;
  }
  return 0;
}

// ---- options ----

function checkOptions(options) {
  const { maxTokens = 256, temperature = 0.8, topP = 0.95, topK = 0, minP = 0, seed, stop = [] } = options;
  requireNumber("maxTokens", maxTokens, 0, 0x7fffffff, true);
  requireNumber("temperature", temperature, 0, 1000);
  requireNumber("topP", topP, 0, 1);
  requireNumber("topK", topK, 0, 0x7fffffff, true);
  requireNumber("minP", minP, 0, 1);
  const stops = (Array.isArray(stop) ? stop : [stop]).filter((text) => text !== "");
  if (!stops.every((text) => typeof text === "string")) {
    throw new UsageError("stop texts are strings", { subject: "stop", actual: JSON.stringify(stop) });
  }
  return { maxTokens, stop: stops, sampling: { seed: checkSeed(seed), temperature, topP, topK, minP } };
}

function requireNumber(subject, value, least, most, whole = false) {
  const good = typeof value === "number" && value >= least && value <= most && (!whole || Number.isInteger(value));
  if (!good) {
    throw new UsageError("an option is out of its range", {
      subject, expected: `${whole ? "a whole number" : "a number"} from ${least} to ${most}`, actual: String(value),
    });
  }
}

/** @returns {bigint} of 64 bits */
function checkSeed(seed) {
  if (seed === undefined || seed === null) {
    return BigInt(Math.floor(Math.random() * Number.MAX_SAFE_INTEGER));
  }
  if (typeof seed === "bigint" || Number.isSafeInteger(seed)) return BigInt.asUintN(64, BigInt(seed));
  throw new UsageError("not a seed", { subject: "seed", expected: "a whole number", actual: String(seed) });
}
