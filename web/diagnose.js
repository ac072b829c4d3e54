// diagnose.js: what this host offers to ruvq, and what to do where something is missing.
import { FEATURES } from "./features.js";
import { defaultThreads } from "./threads.js";

const ISOLATION_HEADERS = {
  "Cross-Origin-Opener-Policy": ["same-origin"],
  "Cross-Origin-Embedder-Policy": ["require-corp", "credentialless"],
};

/**
 * @typedef {object} Diagnosis
 * @property {boolean} usable ruvq runs here
 * @property {boolean} simd 128-bit WebAssembly SIMD (needed)
 * @property {boolean} relaxedSimd relaxed SIMD
 * @property {boolean} threads memory can be shared with workers
 * @property {number} defaultThreads how many a model takes when nobody says
 * @property {boolean} crossOriginIsolated
 * @property {string[]} missingHeaders what the server would have to send for threads, as "Name: value"
 * @property {number} cores
 * @property {number | null} deviceMemoryBytes as far as the browser tells (it rounds down, at most 8 GiB)
 * @property {number} engineLimitBytes a WebAssembly memory's limit
 * @property {string[]} advice sentences for a person; empty when all is well
 */

/** @returns {Promise<Diagnosis>} */
export async function diagnose() {
  const isolated = globalThis.crossOriginIsolated === true;
  const inPage = typeof globalThis.location !== "undefined";
  const report = {
    usable: FEATURES.wasm() && FEATURES.simd(),
    simd: FEATURES.wasm() && FEATURES.simd(),
    relaxedSimd: FEATURES.wasm() && FEATURES.relaxedSimd(),
    threads: FEATURES.threads(),
    defaultThreads: FEATURES.threads() ? defaultThreads() : 1,
    crossOriginIsolated: isolated,
    missingHeaders: inPage && !isolated ? await missingHeaders() : [],
    cores: globalThis.navigator?.hardwareConcurrency ?? 1,
    deviceMemoryBytes: globalThis.navigator?.deviceMemory ? navigator.deviceMemory * 2 ** 30 : null,
    engineLimitBytes: 2 ** 32,
  };
  return { ...report, advice: advise(report) };
}

/** Asks the server for this page's headers again, since scripts can't see those it came with. */
async function missingHeaders() {
  let headers = new Headers();
  try {
    headers = (await fetch(globalThis.location.href, { method: "HEAD", cache: "no-store" })).headers;
  } catch {
    // a page from a file or offline: then all of them are missing
  }
  return Object.entries(ISOLATION_HEADERS)
    .filter(([name, values]) => !values.includes((headers.get(name) ?? "").split(";")[0].trim()))
    .map(([name, values]) => `${name}: ${values[0]}`);
}

function advise(report) {
  const advice = [];
  if (!report.simd) advice.push("This browser has no WebAssembly SIMD, which ruvq needs: use one from 2023 or later.");
  if (report.missingHeaders.length > 0) {
    advice.push(`Threads are off because the server does not send ${report.missingHeaders.join(" and ")}. `
      + "ruvq runs on one thread without them; `ruvq serve` sends them, and coi-serviceworker.js adds them where "
      + "the server can't.");
  } else if (!report.threads && !globalThis.isSecureContext) {
    advice.push("Threads are off because this page was not loaded over https or from localhost.");
  } else if (!report.threads) {
    advice.push("Threads are off although the headers are right: the page is probably embedded in one without them.");
  }
  if (report.deviceMemoryBytes !== null && report.deviceMemoryBytes <= 2 ** 31) {
    advice.push("This device has little memory: prefer models below 500 MB and a short context.");
  }
  return advice;
}
