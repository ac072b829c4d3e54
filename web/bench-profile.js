// bench-profile.js: where the time of one decoded token goes, in the browser. The same pieces as
// build/bench/token_profile.py measures natively: whole tokens after a short and a long text, every matrix's
// product over its own weights in the file's order and again from the cache, sampling, reading of memory.
import { CONSTANTS as C } from "./abi.js";
import { benchEngine, threadsOf } from "./bench-engine.js";
import { LocalModel } from "./local_model.js";
import { GREEDY } from "./sampling.js";

const now = () => performance.now() / 1000;

function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

/** Median seconds of a token decoded after `context` tokens of text, `have` of them there; and of drawing it. */
function tokenSeconds(local, context, tokens, have = 0) {
  const vocabulary = local.shape.vocab_size;
  local.truncate(have);
  local.feed(Array.from({ length: context - have }, (_, i) => (have + i + 1) % vocabulary));
  while (local.step() > 0);
  const sampling = [];
  const steps = [];
  for (let i = 0; i < tokens; i += 1) {
    const start = now();
    const token = local.sample();
    const sampled = now();
    local.feed([token]);
    local.step();
    steps.push(now() - start);
    sampling.push(sampled - start);
  }
  return { token_s: median(steps), sample_s: median(sampling) };
}

/** Seconds a token of every kind of matrix: over all layers in order, and one layer's again and again. */
function productSeconds(engine, base, tensors, rounds) {
  const widest = Math.max(...tensors.map((t) => t.width));
  const tallest = Math.max(...tensors.map((t) => t.rows));
  const x = engine.alloc(4 * widest);
  const y = engine.alloc(4 * tallest);
  engine.write(x, new Uint8Array(Float32Array.from({ length: widest }, (_, i) => Math.sin(i + 1)).buffer));
  const scratchBytes = Math.max(...tensors.map((t) => engine.call("rq_matvec_scratch", t.format, t.width)));
  const scratch = engine.alloc(scratchBytes);
  const product = ({ format, offset, rows, width }) =>
    engine.call("rq_matvec", format, base + offset, rows, width, x, y, scratch, scratch + scratchBytes, C.RQ_SIMD);
  const samples = {};
  const cached = {};
  for (let round = 0; round < rounds; round += 1) {
    const times = {};
    for (const tensor of tensors) {
      const start = now();
      product(tensor);
      times[tensor.kind] = (times[tensor.kind] ?? 0) + now() - start;
    }
    for (const [kind, time] of Object.entries(times)) (samples[kind] ??= []).push(time);
  }
  for (const tensor of tensors) {
    if (cached[tensor.kind] !== undefined) continue;
    const all = tensors.filter((t) => t.kind === tensor.kind).length;
    const repeats = Math.max(3, Math.ceil(1e7 / (tensor.rows * tensor.width)));
    const start = now();
    for (let i = 0; i < repeats; i += 1) product(tensor);
    cached[tensor.kind] = (now() - start) / repeats * all;
  }
  const streamed = Object.fromEntries(Object.entries(samples).map(([kind, times]) => [kind, median(times)]));
  return { streamed_s: streamed, cached_s: cached };
}

/** Bytes a second that one thread reads from a buffer of this size. */
async function readSpeed(url, bytes, rounds) {
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
  return bytes / median(times);
}

/** Tokens a second decoded after growing texts. @returns {Promise<{by_context: object, threads: number}>} */
export async function contexts({ url, lengths, tokens, threads }) {
  const engine = await benchEngine(threads);
  const bytes = new Uint8Array(await (await fetch(url)).arrayBuffer());
  const local = LocalModel.fromBytes(engine, bytes, { context: Math.max(...lengths) + tokens + 1 });
  local.startSampler(GREEDY);
  tokenSeconds(local, 8, 4); // warms up
  const result = {};
  let have = 0;
  for (const length of lengths) {
    result[length] = 1 / tokenSeconds(local, length, tokens, have).token_s;
    have = length;
  }
  return { by_context: result, threads: threadsOf(engine) };
}

/** All of it. `tensors`: {kind, format, offset, rows, width} in the order in which a token meets them. */
export async function profile({ url, tensors, lengths, tokens, rounds, readUrl, readBytes }) {
  const engine = await benchEngine();
  const bytes = new Uint8Array(await (await fetch(url)).arrayBuffer());
  const local = LocalModel.fromBytes(engine, bytes, { context: Math.max(...lengths) + tokens + 1 });
  local.startSampler(GREEDY);
  tokenSeconds(local, 8, 4); // warms up
  const after = {};
  for (const context of lengths) after[context] = tokenSeconds(local, context, tokens);
  const products = productSeconds(engine, local.file.address, tensors, rounds);
  return { after, ...products, read_bytes_per_s: await readSpeed(readUrl, readBytes, rounds) };
}
