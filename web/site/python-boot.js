// python-boot.js: Pyodide with ruvq installed, for the workers that run Python. Everything comes from this site's
// pyodide/ folder; no other server is asked.
import { errorToPlain, UnsupportedError } from "../errors.js";

const PYODIDE_VERSION = "314.0.7";
const SITE = new URL("../", import.meta.url).href;
const BASE = `${SITE}pyodide/${PYODIDE_VERSION}/`;

/**
 * Starts Pyodide, installs ruvq and runs one of the site's programs, whose globals are then `pyodide.globals`.
 * @param {string} program address of a .py file beside this script
 * @param {(phase: "python" | "packages") => void} onPhase
 * @throws {UnsupportedError}
 */
export async function boot(program, onPhase) {
  try {
    onPhase("python");
    const { loadPyodide } = await import(`${BASE}pyodide.mjs`);
    const pyodide = await loadPyodide({ indexURL: BASE, packageBaseUrl: BASE });
    onPhase("packages");
    await pyodide.loadPackage("micropip", { messageCallback: () => {} });
    pyodide.globals.set("index", `${SITE}pyodide/simple`);
    await pyodide.runPythonAsync("import micropip; micropip.set_index_urls(index)");
    await pyodide.runPythonAsync('await micropip.install("ruvq")');
    const response = await fetch(new URL(program, import.meta.url));
    if (!response.ok) throw new Error(`${program}: status ${response.status}`);
    await pyodide.runPythonAsync(await response.text(), { filename: program });
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
