// python-start.js: the worker of python-worker.js, which the page may start before it has read the scripts that talk
// to it. The worker starts Pyodide at once and says nothing until it is asked.
let ahead = null;

const start = () => new Worker(new URL("./python-worker.js", import.meta.url), { type: "module" });

/** Starts Python for whoever asks for it first. */
export function startPythonAhead() {
  ahead = start();
}

/** @returns {Worker} the one that was started ahead, else a new one */
export function pythonWorker() {
  const worker = ahead ?? start();
  ahead = null;
  return worker;
}
