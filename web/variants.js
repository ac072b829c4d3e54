// variants.js: which build of the engine module runs here. All builds hold the same sources and give the same
// bits; a build is taken where the host validates its instructions and its self-test passes, else the next one.
import { FEATURES } from "./features.js";

/** Best first; the last one needs what every host of ruvq has. */
const VARIANTS = [
  { name: "relaxed-simd", ending: "-relaxed.wasm", works: () => FEATURES.relaxedSimd() },
  { name: "simd128", ending: ".wasm", works: () => true },
];
const STANDARD = /(^|\/)(ruvq|ruvq-threads)\.wasm(?=$|[?#])/;

/**
 * The builds to try for `source`: those beside it where it is the address of ruvq.wasm or ruvq-threads.wasm, by
 * name where it is an object of addresses, else itself.
 * @param {string | URL | BufferSource | WebAssembly.Module | Record<string, string>} source
 * @returns {{name: string, source: any}[]} never empty, best first
 */
export function candidates(source) {
  const usable = VARIANTS.filter((variant) => variant.works());
  if (typeof source === "string" || source instanceof URL) {
    const address = String(source);
    if (!STANDARD.test(address)) return [{ name: "given", source }];
    return usable.map(({ name, ending }) => ({ name, source: address.replace(STANDARD, `$1$2${ending}`) }));
  }
  if (source?.constructor === Object) {
    const found = usable.filter(({ name }) => source[name]);
    if (found.length) return found.map(({ name }) => ({ name, source: source[name] }));
  }
  return [{ name: "given", source }];
}

/**
 * Loads the first candidate that works. What stops one (it isn't served, it computes differently on this host)
 * is an error only of the last.
 * @template T @param {any} source see `candidates`
 * @param {(source: any, name: string) => Promise<T>} load throws when a build can't be used
 * @param {AbortSignal} [signal]
 * @returns {Promise<T>}
 */
export async function loadFirst(source, load, signal) {
  const list = candidates(source);
  for (const { name, source: from } of list.slice(0, -1)) {
    try {
      return await load(from, name);
    } catch (error) {
      if (signal?.aborted) throw error;
    }
  }
  const last = list[list.length - 1];
  return load(last.source, last.name);
}
