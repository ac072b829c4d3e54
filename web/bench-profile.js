// bench-profile.js: where the time of one decoded token goes, in the browser: what build/bench/profile_native.py
// measures natively, with the build of the engine that has a clock inside or with the one that ships.
import { CONSTANTS as C, STRUCTS } from "./abi.js";
import { benchEngine, threadsOf } from "./bench-engine.js";
import { LocalModel } from "./local_model.js";
import { GREEDY } from "./sampling.js";

const now = () => performance.now() / 1000;
const OPERATIONS = Object.entries(C).filter(([name]) => /^RQ_OP_(?!COUNT)/.test(name));
const LEAST_SECONDS = 0.005; // of a timed piece: a browser's clock has steps

function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

async function openModel({ url, lengths, tokens, threads = 1, folder }) {
  const engine = await benchEngine(threads, folder);
  const bytes = new Uint8Array(await (await fetch(url)).arrayBuffer());
  const local = LocalModel.fromBytes(engine, bytes, { context: Math.max(...lengths) + tokens + 2 });
  local.startSampler(GREEDY);
  feedText(local, 8, 0);
  decode(local, 4); // warms up
  local.truncate(0);
  return local;
}

/** Makes the text `length` tokens long, `have` of them there. */
function feedText(local, length, have) {
  const vocabulary = local.shape.vocab_size;
  local.truncate(have);
  local.feed(Array.from({ length: length - have }, (_, i) => (have + i + 1) % vocabulary));
  while (local.step() > 0);
}

/** Seconds of decoding so many tokens, and those of them spent on drawing. */
function decode(local, tokens) {
  let sampling = 0;
  const start = now();
  for (let i = 0; i < tokens; i += 1) {
    const before = now();
    const token = local.sample();
    sampling += now() - before;
    local.feed([token]);
    local.step();
  }
  return { seconds: now() - start, sampling };
}

const hasClock = (engine) => engine.exports.rq_model_profile !== undefined;

/** @returns {Record<string, number>} operation → seconds since the last reset */
function readProfile({ engine, _memory: memory }) {
  return engine.withMemory(STRUCTS.rq_profile.size, (address) => {
    engine.call("rq_model_profile", memory, address);
    const { seconds } = engine.readStruct("rq_profile", address);
    return Object.fromEntries(OPERATIONS.map(([name, number]) => [name.slice(6).toLowerCase(), seconds[number]]));
  });
}

/** A round of `tokens` tokens after `context` others: seconds a token, and what they were spent on. */
function oneRound(local, context, tokens) {
  const clock = hasClock(local.engine);
  feedText(local, context + 1, context);
  if (clock) local.engine.call("rq_model_profile_reset", local._memory);
  const { seconds, sampling } = decode(local, tokens);
  const result = { token_s: seconds / tokens, sampling_s: sampling / tokens };
  if (!clock) return result;
  const operations = Object.entries(readProfile(local)).map(([name, s]) => [name, s / tokens]);
  return { ...result, operations_s: Object.fromEntries(operations) };
}

/** The fastest round after a text of `context` tokens, and how far the others lay apart. */
function afterText(local, context, tokens, rounds) {
  feedText(local, context, Math.min(local.position, context));
  const results = Array.from({ length: rounds }, () => oneRound(local, context, tokens));
  const [best] = results.toSorted((a, b) => a.token_s - b.token_s);
  return { ...best, slowest_token_s: Math.max(...results.map((r) => r.token_s)) };
}

/** Seconds of one product of every [layer, operation], its weights in the nearest cache. */
function cachedProducts(local, matrices, rounds) {
  const seconds = (layer, operation, repeats) => {
    feedText(local, 2, 1); // logits, which the call multiplies with
    const start = now();
    local.engine.call("rq_model_profile_cached", local._memory, layer, operation, repeats);
    return (now() - start) / repeats;
  };
  return matrices.map(([layer, operation]) => {
    const first = seconds(layer, operation, 10);
    const repeats = Math.max(10, Math.ceil(LEAST_SECONDS / Math.max(first, 1e-6)));
    return Math.min(...Array.from({ length: rounds }, () => seconds(layer, operation, repeats)));
  });
}

/** Bytes a second that one thread reads from a buffer of this size. */
export async function readSpeed({ url, bytes, rounds }) {
  const { instance } = await WebAssembly.instantiate(await (await fetch(url)).arrayBuffer(), {});
  const { memory, read_memory: read, __heap_base: heap } = instance.exports;
  memory.grow(Math.ceil(bytes / 65536) + 1);
  const begin = (heap.value + 63) & ~63;
  new Uint8Array(memory.buffer, begin, bytes).fill(1);
  const times = [];
  for (let round = 0; round < rounds; round += 1) {
    const repeats = Math.max(1, Math.ceil(64e6 / bytes));
    const start = now();
    for (let i = 0; i < repeats; i += 1) read(begin, bytes >> 4);
    times.push((now() - start) / repeats);
  }
  return bytes / Math.min(...times);
}

/** Tokens a second decoded after growing texts. @returns {Promise<{by_context: object, threads: number}>} */
export async function contexts({ url, lengths, tokens, threads }) {
  const local = await openModel({ url, lengths, tokens, threads });
  const result = {};
  let have = 0;
  for (const length of lengths) {
    feedText(local, length, have);
    result[length] = 1 / median(Array.from({ length: tokens }, () => decode(local, 1).seconds));
    have = length;
  }
  return { by_context: result, threads: threadsOf(local.engine) };
}

/** All of it: after each length of text, and products from the cache where the engine has a clock. */
export async function profile({ url, lengths, tokens, rounds, matrices, folder }) {
  const local = await openModel({ url, lengths, tokens, folder });
  const after = {};
  for (const length of lengths) after[length] = afterText(local, length, tokens, rounds);
  const cached = hasClock(local.engine) ? cachedProducts(local, matrices, rounds) : [];
  return { after, cached_s: cached, kernels: local.engine.variant };
}
