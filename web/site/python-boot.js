// python-boot.js: Pyodide with ruvq installed, for the workers that run Python. Everything comes from this site's
// pyodide/ folder, whose lock file names the wheel; no other server is asked.
import { errorToPlain, UnsupportedError } from "../errors.js";

const PYODIDE_VERSION = "314.0.7";
const SITE_PACKAGES = "/lib/python3.14/site-packages"; // of that release
const SITE = new URL("../", import.meta.url).href;
const BASE = `${SITE}pyodide/${PYODIDE_VERSION}/`;

/**
 * Starts Pyodide with ruvq and runs one of the site's programs, whose globals are then `pyodide.globals`.
 * @param {string} program address of a .py file beside this script
 * @param {Record<string, Promise<object>>} [modules] JavaScript that Python can import, by name
 * @throws {UnsupportedError}
 */
export async function boot(program, modules = {}) {
  try {
    const [wheel, text] = [fetchWheel(), read(new URL(program, import.meta.url)).then((response) => response.text())];
    for (const later of [wheel, text]) later.catch(() => {}); // what went wrong is said where they are awaited
    const pyodide = await start();
    pyodide.unpackArchive(await wheel, "wheel", { extractDir: SITE_PACKAGES });
    for (const [name, module] of Object.entries(modules)) pyodide.registerJsModule(name, await module);
    pyodide.globals.set("package_index", `${SITE}pyodide/simple`);
    await pyodide.runPythonAsync(await text, { filename: program });
    return pyodide;
  } catch (error) {
    throw new UnsupportedError("Python could not be started", {
      subject: BASE,
      expected: "Pyodide and the ruvq wheel",
      actual: String(error.message ?? error),
      hint: "build the site with `make site`, which puts Pyodide beside the page; or use the JavaScript host",
    });
  }
}

/** Pyodide, from the snapshot of its booted memory where there is one and it comes. */
async function start() {
  const { loadPyodide } = await import(`${BASE}pyodide.mjs`);
  const options = { indexURL: BASE, packageBaseUrl: BASE };
  const snapshot = slow(navigator.connection) ? null : await fetchSnapshot();
  if (snapshot) {
    try {
      const pyodide = await loadPyodide({ ...options, _loadSnapshot: snapshot.bytes });
      pyodide.runPython("import random; random.seed()"); // else every page would draw the same numbers
      return pyodide;
    } catch (error) {
      console.warn("ruvq: Python starts without its snapshot:", error);
    }
  }
  return loadPyodide(options);
}

/** Whether the snapshot's 6 MB would take longer than booting does. @param {any} connection not every browser tells */
function slow(connection) {
  return connection?.saveData || ["slow-2g", "2g", "3g"].includes(connection?.effectiveType);
}

/** @returns {Promise<{bytes: Promise<ArrayBuffer>} | null>} as soon as there is an answer; null where there is none */
async function fetchSnapshot() {
  try {
    const { body } = await read(`${BASE}snapshot.bin`);
    const bytes = new Response(body.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
    bytes.catch(() => {}); // loadPyodide fails then
    return { bytes };
  } catch {
    return null;
  }
}

/** The wheel that the lock file names, checked by its hash. @returns {Promise<ArrayBuffer>} */
async function fetchWheel() {
  const lock = await (await read(`${BASE}pyodide-lock.json`)).json();
  const { file_name: file, sha256 } = lock.packages.ruvq;
  const digest = btoa(String.fromCharCode(...sha256.match(/../g).map((hex) => parseInt(hex, 16))));
  return (await read(`${BASE}${file}`, { integrity: `sha256-${digest}` })).arrayBuffer();
}

async function read(address, options) {
  const response = await fetch(address, options);
  if (!response.ok) throw new Error(`${address}: status ${response.status}`);
  return response;
}

/**
 * Answers messages of python-link.js with `calls[call](...args, {id, emit})`.
 * @param {Record<string, Function>} calls @param {(id: number) => void} [stop]
 */
export function answer(calls, stop) {
  self.onmessage = async ({ data }) => {
    if (data.stop !== undefined) {
      stop?.(data.stop);
      return;
    }
    const { id, call, args } = data;
    const emit = (event) => self.postMessage({ id, event });
    try {
      const { value, error, transfer = [] } = await calls[call](...args, { id, emit });
      self.postMessage({ id, value, error }, transfer);
    } catch (error) {
      self.postMessage({ id, error: errorToPlain(error) });
    }
  };
}
