// bench-worker.js: the browser's side of the benchmark, in a worker as pages use the engine. The same tasks as
// build/bench/native.py, one message each: what to measure comes in, seconds go out.
import { CONSTANTS as C } from "./abi.js";
import { benchEngine, threadsOf } from "./bench-engine.js";
import { LocalModel } from "./local_model.js";
import { GREEDY } from "./sampling.js";

const VARIANTS = { simd: C.RQ_SIMD, scalar: C.RQ_SCALAR };
const now = () => performance.now() / 1000;

/** Seconds of one call, from as many calls as fill `minimum` seconds. */
function secondsOf(work, minimum = 0.02) {
  let calls = 0;
  const start = now();
  for (;;) {
    work();
    calls += 1;
    const elapsed = now() - start;
    if (elapsed >= minimum) return elapsed / calls;
  }
}

async function bytesAt(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: status ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

/** Runs every task once a round, so that a drift of the machine's speed meets all of them alike. */
function interleaved(tasks, rounds) {
  const times = Object.fromEntries(Object.keys(tasks).map((name) => [name, []]));
  for (let round = 0; round < rounds; round += 1) {
    for (const [name, task] of Object.entries(tasks)) times[name].push(secondsOf(task));
  }
  return times;
}

/** @returns {Promise<Record<string, number[]>>} task → seconds, by round */
async function kernels({ formats, rows, width, rounds }) {
  const engine = await benchEngine(1);
  const out = engine.alloc(rows * width * 4);
  const source = engine.alloc(rows * width * 4);
  const x = engine.alloc(width * 4);
  const y = engine.alloc(rows * 4);
  const vector = Float32Array.from({ length: width }, (_, i) => Math.sin(i + 1));
  engine.write(x, new Uint8Array(vector.buffer));
  const tasks = { memcpy: () => engine.bytes.copyWithin(out, source, source + rows * width * 4) };
  for (const { name, id, url } of formats) {
    const bytes = await bytesAt(url);
    const data = engine.alloc(bytes.length);
    engine.write(data, bytes);
    const scratchBytes = engine.call("rq_matvec_scratch", id, width);
    const scratch = engine.alloc(scratchBytes);
    for (const [variant, number] of Object.entries(VARIANTS)) {
      tasks[`${name} decode_${variant}`] = () => engine.call("rq_decode", id, data, rows, width, out, number);
      tasks[`${name} matvec_${variant}`] = () =>
        engine.call("rq_matvec", id, data, rows, width, x, y, scratch, scratch + scratchBytes, number);
    }
  }
  return interleaved(tasks, rounds);
}


function decode(local, tokens) {
  for (let i = 0; i < tokens; i += 1) {
    local.feed([local.sample()]);
    local.step();
  }
}

/** Opens a file, warms up, computes a prompt, decodes greedily after it. */
async function model({ url, promptTokens, decodeTokens, threads }) {
  const engine = await benchEngine(threads);
  const bytes = await bytesAt(url);
  const start = now();
  const local = LocalModel.fromBytes(engine, bytes, { context: promptTokens + decodeTokens + 1 });
  const opened = now();
  const vocabulary = local.shape.vocab_size;
  local.startSampler(GREEDY);
  local.feed(Array.from({ length: 8 }, (_, i) => i));
  while (local.step() > 0);
  decode(local, 4);
  local.truncate(0);
  const begun = now();
  local.feed(Array.from({ length: promptTokens }, (_, i) => (i + 1) % vocabulary));
  while (local.step() > 0);
  const prompted = now();
  decode(local, decodeTokens);
  const decoded = now();
  return {
    open_s: opened - start,
    prompt_tokens_per_s: promptTokens / (prompted - begun),
    decode_tokens_per_s: decodeTokens / (decoded - prompted),
    memory_bytes: engine.memoryBytes,
    kv_bytes: local.info.kvBytes,
    threads: threadsOf(engine),
  };
}

/** Which build of the engine runs here: variants.js has chosen it. */
const build = async () => ({ variant: (await benchEngine()).variant });

/** The Hadamard transform of some vectors. @returns {Promise<Record<string, number[]>>} seconds by round */
async function hadamard({ rows, width, rounds }) {
  const engine = await benchEngine(1);
  const x = engine.alloc(4 * rows * width);
  engine.write(x, new Uint8Array(Float32Array.from({ length: rows * width }, (_, i) => Math.sin(i)).buffer));
  return interleaved({ hadamard: () => engine.call("rq_hadamard", x, rows, width, 1, 0, 0, C.RQ_SIMD) }, rounds);
}

const fromFile = (file, task) => async (spec) => (await import(file))[task](spec);
const TASKS = {
  kernels,
  model,
  build,
  hadamard,
  products: fromFile("./bench-peers.js", "products"),
  onnxModel: fromFile("./bench-peers.js", "onnxModel"),
  profile: fromFile("./bench-profile.js", "profile"),
  contexts: fromFile("./bench-profile.js", "contexts"),
  readSpeed: fromFile("./bench-profile.js", "readSpeed"),
  threads: fromFile("./bench-threads.js", "threads"),
};

self.onmessage = async ({ data: { task, spec } }) => {
  try {
    self.postMessage({ result: await TASKS[task](spec) });
  } catch (error) {
    self.postMessage({ error: String(error?.stack ?? error) });
  }
};
