// sampler.js: draws tokens from logits that lie in engine memory, with biases and penalties; the drawing is the core's.
import { STRUCTS } from "./abi.js";

export class Sampler {
  /** @param {import("./engine.js").Engine} engine @param {number} vocabSize length of the logits */
  constructor(engine, vocabSize) {
    this.engine = engine;
    this.vocabSize = vocabSize;
    this._recent = 0; // tokens that penalties look at
    this._biases = [];
    const scratchBytes = engine.call("rq_sample_scratch", vocabSize);
    this._scratch = engine.alloc(scratchBytes + STRUCTS.rq_sampler.size + vocabSize * 4);
    this._state = this._scratch + scratchBytes;
    this._adjustedLogits = this._state + STRUCTS.rq_sampler.size;
  }

  /** @param {ReturnType<typeof import("./sampling.js").checkOptions>["sampling"]} options */
  start({ seed, penaltyTokens, logitBias, ...options }) {
    const { engine } = this;
    const low = Number(seed & 0xffffffffn);
    const high = Number((seed >> 32n) & 0xffffffffn);
    const inC = (name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    const fields = Object.entries(options).map(([name, value]) => [inC(name), value]);
    engine.withMemory(STRUCTS.rq_sampling.size, (how) => {
      engine.writeStruct("rq_sampling", how, Object.fromEntries(fields));
      engine.call("rq_sampler_init", this._state, low, high, how);
    });
    const { repeatPenalty, presencePenalty, frequencyPenalty } = options;
    this._recent = repeatPenalty === 1 && !presencePenalty && !frequencyPenalty ? 0 : penaltyTokens;
    this._biases = logitBias;
  }

  /** @param {number} logits their address @param {number[]} history all tokens so far @returns {number} a token's id */
  sample(logits, history) {
    const { _scratch: scratch, _state: state } = this;
    const from = this._recent > 0 || this._biases.length > 0 ? this._adjust(logits, history) : logits;
    return this.engine.call("rq_sample", state, from, this.vocabSize, scratch, state);
  }

  /** Where the logits lie with biases and penalties. */
  _adjust(logits, history) {
    const { engine, _biases: biases, _adjustedLogits: out } = this;
    const recent = this._recent > 0 ? history.slice(-this._recent) : [];
    const [tokenOffset] = STRUCTS.rq_logit_bias.fields.token;
    const [biasOffset] = STRUCTS.rq_logit_bias.fields.bias;
    const stride = STRUCTS.rq_logit_bias.size;
    engine.withMemory(biases.length * stride + recent.length * 4 + 4, (address) => {
      const ids = address + biases.length * stride;
      const { view } = engine;
      biases.forEach(([token, bias], n) => {
        view.setInt32(address + n * stride + tokenOffset, token, true);
        view.setFloat32(address + n * stride + biasOffset, bias, true);
      });
      recent.forEach((token, n) => view.setInt32(ids + n * 4, token, true));
      const from = [this._state, logits, this.vocabSize];
      engine.call("rq_adjust_logits", ...from, address, biases.length, ids, recent.length, out);
    });
    return out;
  }

  /** Natural logarithm of the probability of `token`. @param {number} logits their address @returns {number} */
  logprob(logits, token) {
    const { engine } = this;
    return engine.withMemory(4, (out) => {
      engine.call("rq_log_probability", logits, this.vocabSize, token, out);
      return engine.view.getFloat32(out, true);
    });
  }

  /** The `count` likeliest tokens with their log-probabilities, the best first. @returns {[number, number][]} */
  topLogprobs(logits, count) {
    const { engine } = this;
    return engine.withMemory(count * 8, (ids) => {
      const out = ids + count * 4;
      engine.call("rq_top_log_probabilities", logits, this.vocabSize, count, ids, out);
      const { view } = engine;
      const entry = (n) => [view.getInt32(ids + n * 4, true), view.getFloat32(out + n * 4, true)];
      return Array.from({ length: count }, (_, n) => entry(n));
    });
  }

  dispose() {
    this.engine.free(this._scratch);
    this._scratch = 0;
  }
}
