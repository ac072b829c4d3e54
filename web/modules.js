// modules.js: where the engine's builds lie, beside this file. The addresses are written out one by one, because that
// is what bundlers look for; they are made when they are asked for, because not every host has files beside this one.

/** @returns {Record<string, string>} addresses by the variants of variants.js */
export function engineModules() {
  return {
    "relaxed-simd": new URL("./ruvq-relaxed.wasm", import.meta.url).href,
    simd128: new URL("./ruvq.wasm", import.meta.url).href,
  };
}

/** The same with shared memory. */
export function threadModules() {
  return {
    "relaxed-simd": new URL("./ruvq-threads-relaxed.wasm", import.meta.url).href,
    simd128: new URL("./ruvq-threads.wasm", import.meta.url).href,
  };
}
