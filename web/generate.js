// generate.js: the loop prompt → token → token, one short step at a time, so that whoever drives it can stop
// between any two tokens. Synchronous; the same loop serves the worker, Node and the tests.
import { UsageError } from "./errors.js";
import { checkOptions } from "./sampling.js";
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
 * @property {number} [typicalP] sample from the tokens whose surprise is nearest to the expected one, of this total
 *   probability; 1: off
 * @property {number} [mirostatTau] Mirostat 2 instead of topP, topK, minP and typicalP: aim at so many bits of
 *   surprise; 0: off @property {number} [mirostatEta] how fast it follows; default 0.1
 * @property {number} [repeatPenalty] divides the logits of tokens seen lately; 1: off
 * @property {number} [presencePenalty] taken from the logits of tokens seen lately; 0: off
 * @property {number} [frequencyPenalty] the same, for each time; 0: off
 * @property {number} [penaltyTokens] how many tokens of prompt and text count as lately; default 64
 * @property {Record<number, number> | Map<number, number>} [logitBias] token id → what is added to its logit;
 *   -Infinity: never
 * @property {number} [logprobs] tell the log-probabilities of the token and of so many likeliest ones (0: of the
 *   token alone), before biases and penalties
 */
/**
 * @typedef {object} TokenReport
 * @property {number} id @property {string} text of this token alone
 * @property {number} logprob natural logarithm of its probability @property {{id: number, text: string,
 *   logprob: number}[]} top the likeliest tokens, the best first
 */

/**
 * @typedef {object} GenerateStats
 * @property {number} promptTokens
 * @property {number} cachedTokens of those, still in the KV cache from the text before
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
 * Yields {kind: "prompt", done, total} while the prompt is computed and {kind: "token", id, text, report} for every
 * token (`report`, a TokenReport, where `logprobs` asks for it); `text` may be empty where a character or a stop
 * text is unfinished. A last {kind: "rest", text} holds
 * what was held back. Returns the stats, which `model.stats` holds too; closing the generator early is an abort.
 * What the KV cache holds of the prompt is not computed again, which changes nothing in the result.
 * @param {object} model a LocalModel @param {string | number[]} prompt text, or token ids as they are
 * @param {GenerateOptions & {endIds?: number[]}} [options] `endIds`: more ids that end the text
 */
export function* generate(model, prompt, options = {}) {
  const { maxTokens, stop, logprobs, sampling } = checkOptions(options);
  const ids = promptTokens(model.tokenizer, prompt);
  const ends = new Set(options.endIds);
  const started = seconds();
  const stats = (model.stats = {
    promptTokens: ids.length, cachedTokens: 0, promptSeconds: 0, tokens: 0, seconds: 0, tokensPerSecond: 0,
    timeToFirstToken: null, seed: String(sampling.seed), finishReason: null,
  });
  try {
    model.startSampler(sampling);
    stats.cachedTokens = model.beginText(ids);
    for (let waiting = ids.length - stats.cachedTokens; waiting > 0; ) {
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
        model.append(last);
        model.step();
      }
      const id = (last = model.sample());
      const report = logprobs === null ? undefined : reportToken(model, id, logprobs);
      stats.tokens += 1;
      const end = model.tokenizer.isEnd(id) || ends.has(id);
      const piece = end ? "" : scanner.push(text.push(id));
      if (end || scanner.found) reason = "stop";
      else if (stats.tokens >= maxTokens) reason = "length";
      else if (model.position >= model.info.context) reason = "context";
      stats.timeToFirstToken ??= seconds() - started;
      stats.seconds = seconds() - decodingStarted;
      stats.tokensPerSecond = stats.tokens / Math.max(stats.seconds, 1e-9);
      yield { kind: "token", id, text: piece, report };
    }
    yield { kind: "rest", text: scanner.push(text.flush()) + scanner.flush() };
    stats.finishReason = reason;
  } finally {
    stats.finishReason ??= "aborted"; // closed between two steps, or an error
  }
  return stats;
}

/** @returns {TokenReport} */
function reportToken(model, id, count) {
  const textOf = (token) => model.tokenizer.decode([token], { special: true });
  const describe = (token, logprob) => ({ id: token, text: textOf(token), logprob });
  const top = count === 0 ? [] : model.topLogprobs(count);
  return { ...describe(id, model.logprob(id)), top: top.map(([token, logprob]) => describe(token, logprob)) };
}

/** The tokens of a prompt, with the one for the beginning where the file says so. */
export function promptTokens(tokenizer, prompt) {
  if (Array.isArray(prompt) && prompt.length > 0) return prompt;
  const { bos, add_bos: addBos } = tokenizer.info;
  const ids = [...(addBos && bos >= 0 ? [bos] : []), ...(prompt.length ? tokenizer.encode(prompt) : [])];
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
