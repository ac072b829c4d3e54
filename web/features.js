// features.js: what this host's WebAssembly can do, found by validating tiny modules. No user-agent strings.

import { UsageError } from "./errors.js";

/** Wraps the body of one function () -> () into a module. */
function moduleWith(body, type = [0x60, 0, 0]) {
  const code = [body.length + 2, 0, ...body, 0x0b];
  return new Uint8Array([
    0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0, // magic, version
    1, type.length + 1, 1, ...type, // one type
    3, 2, 1, 0, // one function of that type
    10, code.length + 1, 1, ...code,
  ]);
}

const V128_ZERO = [0xfd, 0x0c, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]; // v128.const 0
const DROP = 0x1a;
const SIMD_ADD = [0xfd, 0x6e]; // i8x16.add
const RELAXED_DOT = [0xfd, 0x92, 0x02]; // i16x8.relaxed_dot_i8x16_i7x16_s

const validates = (bytes) => typeof WebAssembly !== "undefined" && WebAssembly.validate(bytes);

/** Each entry is a probe; cheap enough to ask every time. */
export const FEATURES = {
  wasm: () => typeof WebAssembly !== "undefined",
  simd: () => validates(moduleWith([...V128_ZERO, ...V128_ZERO, ...SIMD_ADD, DROP])),
  relaxedSimd: () => validates(moduleWith([...V128_ZERO, ...V128_ZERO, ...RELAXED_DOT, DROP])),
  sharedMemory: () => typeof SharedArrayBuffer !== "undefined",
  /** Memory that workers can share: in browsers, where the page is cross-origin isolated. */
  threads: () => FEATURES.sharedMemory() && globalThis.crossOriginIsolated !== false && sharesMemory(),
  /** Whether this thread may sleep: a page's main thread may not. */
  mayBlock: () => typeof globalThis.document === "undefined",
};

function sharesMemory() {
  try {
    return new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true }).buffer instanceof SharedArrayBuffer;
  } catch {
    return false;
  }
}

const PHONE_BUDGET = 2 ** 30; // browsers of phones end pages that take more
const LEAST_BUDGET = 2 ** 21; // what the engine takes without a model

/** Whether this is a phone or a tablet, as far as a page can tell. */
export function isHandheld() {
  const { userAgentData, maxTouchPoints = 0 } = globalThis.navigator ?? {};
  const coarse = globalThis.matchMedia?.("(pointer: coarse)").matches ?? false;
  return userAgentData?.mobile === true || (maxTouchPoints > 0 && coarse);
}

/** @param {unknown} bytes what the host allows, or undefined @returns {number | undefined} undefined: no limit */
export function checkBudget(bytes) {
  if (bytes === undefined || bytes === null) return isHandheld() ? PHONE_BUDGET : undefined;
  if (typeof bytes === "number" && bytes >= LEAST_BUDGET) return bytes;
  throw new UsageError("not a memory budget", {
    subject: "memoryBudget", expected: `at least ${LEAST_BUDGET} bytes`, actual: String(bytes),
  });
}
