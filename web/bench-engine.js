// bench-engine.js: the engine as the benchmark's tasks load it, with helpers where more than one thread is asked
// for and the page may have them; `threadsOf` says how many there really are.
import { loadEngine } from "./threads.js";

const at = (name) => String(new URL(name, import.meta.url));
const urls = (folder) => ({
  wasmURL: at(`${folder}ruvq.wasm`),
  wasmThreadsURL: at(`${folder}ruvq-threads.wasm`),
  poolWorkerURL: at("pool-worker.js"),
});

/**
 * @param {number} [threads] @param {string} [folder] where the engine's modules are
 * @returns {Promise<import("./engine.js").Engine>} once its helpers are at work
 */
export async function benchEngine(threads = 1, folder = "./") {
  const engine = await loadEngine(urls(folder), threads);
  await engine.pool?.started;
  return engine;
}

/** Threads that compute. @param {import("./engine.js").Engine} engine */
export const threadsOf = (engine) => engine.pool?.count ?? 1;
