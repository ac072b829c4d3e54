// sampling.js: what may be asked of a generation, checked before anything is computed.
import { CONSTANTS as C } from "./abi.js";
import { UsageError } from "./errors.js";

/** @param {import("./generate.js").GenerateOptions} options @returns the same, complete and checked */
export function checkOptions(options) {
  const { maxTokens = 256, temperature = 0.8, topP = 0.95, topK = 0, minP = 0, seed, stop = [] } = options;
  const { typicalP = 1, mirostatTau = 0, mirostatEta = 0.1, repeatPenalty = 1, logprobs = null } = options;
  const { presencePenalty = 0, frequencyPenalty = 0, penaltyTokens = 64, logitBias = {} } = options;
  requireNumber("maxTokens", maxTokens, 0, 0x7fffffff, true);
  requireNumber("temperature", temperature, 0, 1000);
  requireNumber("topP", topP, 0, 1);
  requireNumber("topK", topK, 0, 0x7fffffff, true);
  requireNumber("minP", minP, 0, 1);
  requireNumber("typicalP", typicalP, 0, 1);
  requireNumber("mirostatTau", mirostatTau, 0, 100);
  requireNumber("mirostatEta", mirostatEta, 0, 1);
  requireNumber("repeatPenalty", repeatPenalty, 0.01, 100);
  requireNumber("presencePenalty", presencePenalty, -100, 100);
  requireNumber("frequencyPenalty", frequencyPenalty, -100, 100);
  requireNumber("penaltyTokens", penaltyTokens, 0, C.RQ_MAX_RECENT, true);
  if (logprobs !== null) requireNumber("logprobs", logprobs, 0, C.RQ_MAX_TOP, true);
  const stops = (Array.isArray(stop) ? stop : [stop]).filter((text) => text !== "");
  if (!stops.every((text) => typeof text === "string")) {
    throw new UsageError("stop texts are strings", { subject: "stop", actual: JSON.stringify(stop) });
  }
  const sampling = {
    seed: checkSeed(seed), temperature, topP, topK, minP, typicalP, mirostatTau, mirostatEta, repeatPenalty,
    presencePenalty, frequencyPenalty, penaltyTokens, logitBias: biasEntries(logitBias),
  };
  return { maxTokens, stop: stops, logprobs, sampling };
}

/** Always the likeliest token. */
export const GREEDY = checkOptions({ temperature: 0, topP: 1, seed: 0 }).sampling;

/** @returns {[number, number][]} token ids and biases */
function biasEntries(logitBias) {
  const entries = logitBias instanceof Map ? [...logitBias] : Object.entries(logitBias ?? {});
  return entries.map(([token, bias]) => {
    const right = Number.isInteger(Number(token)) && typeof bias === "number" && !Number.isNaN(bias);
    if (right) return [Number(token), bias];
    throw new UsageError("not a bias of a token", {
      subject: "logitBias", expected: "token ids with numbers", actual: `${String(token)}: ${String(bias)}`,
    });
  });
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
