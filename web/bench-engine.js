// bench-engine.js: the engine as the benchmark's tasks load it, with helpers where more than one thread is asked
// for and the page may have them; `threadsOf` says how many there really are.
import { loadEngine } from "./threads.js";

const at = (name) => String(new URL(name, import.meta.url));
const URLS = {
  wasmURL: at("ruvq.wasm"),
  wasmThreadsURL: at("ruvq-threads.wasm"),
  poolWorkerURL: at("pool-worker.js"),
};

/** @param {number} [threads] @returns {Promise<import("./engine.js").Engine>} once its helpers are at work */
export async function benchEngine(threads = 1) {
  const engine = await loadEngine(URLS, threads);
  await engine.pool?.started;
  return engine;
}

/** Threads that compute. @param {import("./engine.js").Engine} engine */
export const threadsOf = (engine) => engine.pool?.count ?? 1;
