// bench-threads.js: decoding with several numbers of threads in turn, and the cost of sharing out an empty job; the
// browser's side of build/bench/threads.py.
import { benchEngine, threadsOf } from "./bench-engine.js";
import { LocalModel } from "./local_model.js";
import { GREEDY } from "./sampling.js";

const now = () => performance.now();
const median = (values) => values.sort((a, b) => a - b)[values.length >> 1];

async function open(bytes, count, context, turn) {
  const engine = await benchEngine(count);
  if (threadsOf(engine) !== count) throw new Error(`${threadsOf(engine)} instead of ${count} threads`);
  const local = LocalModel.fromBytes(engine, bytes, { context: context + turn });
  local.startSampler(GREEDY);
  local.feed(Array.from({ length: context }, (_, i) => (i + 1) % local.shape.vocab_size));
  while (local.step() > 0);
  return local;
}

function oneTurn(local, context, turn) {
  const times = [];
  for (let i = 0, token = 1; i < turn - 1; i += 1) {
    const start = now();
    local.feed([token]);
    local.step();
    token = local.sample();
    times.push(now() - start);
  }
  local.truncate(context);
  return median(times.slice(1));
}

/** @returns {[number, number]} jobs of one token, microseconds of an empty one */
function sharing(local, context, jobs) {
  const { engine } = local;
  const pool = engine.pool.address;
  const before = engine.call("rq_pool_jobs", pool);
  local.feed([1]);
  local.step();
  const perToken = engine.call("rq_pool_jobs", pool) - before;
  local.truncate(context);
  const times = Array.from({ length: 5 }, () => {
    const start = now();
    engine.call("rq_pool_exercise", pool, jobs);
    return (1000 * (now() - start)) / jobs;
  });
  return [perToken, median(times)];
}

/** Threads → milliseconds a token by turn; jobs a token; microseconds of an empty job. */
export async function threads({ url, counts, rounds, context, turn, jobs }) {
  const bytes = new Uint8Array(await (await fetch(url)).arrayBuffer());
  const models = new Map();
  for (const count of counts) models.set(count, await open(bytes, count, context, turn));
  const result = { ms: {}, jobs: {}, empty_job_us: {} };
  for (const count of counts) result.ms[count] = [];
  for (let round = 0; round <= rounds; round += 1) { // the first warms up
    for (const [count, local] of models) {
      const ms = oneTurn(local, context, turn);
      if (round > 0) result.ms[count].push(ms);
    }
  }
  for (const [count, local] of models) {
    if (local.engine.pool) [result.jobs[count], result.empty_job_us[count]] = sharing(local, context, jobs);
  }
  return result;
}
