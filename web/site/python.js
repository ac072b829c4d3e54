// python.js: the view with a program in Python, run by Pyodide in a worker, its output as it comes.
import { byId, copyText, element, hideError, showError } from "./dom.js";
import { PythonLink } from "./python-link.js";
import { pythonWorker } from "./python-start.js";
import { session } from "./session.js";

const INDENT = "    ";

const link = new PythonLink(pythonWorker);
let running = null; // AbortController

/** The examples beside this script, by title. */
async function readExamples() {
  const response = await fetch(new URL("./examples/index.json", import.meta.url));
  const list = await response.json();
  return Promise.all(list.map(async ({ title, file }) => {
    const text = await (await fetch(new URL(`./examples/${file}`, import.meta.url))).text();
    return { title, text };
  }));
}

function write({ text, kind, phase }) {
  if (phase) {
    byId("cell-status").textContent = "Starting Python";
    return;
  }
  byId("cell-status").textContent = "Running";
  const output = byId("cell-output");
  output.append(kind === "error" ? element("span", { className: "wrong", textContent: text }) : text);
  output.scrollTop = output.scrollHeight;
}

async function run() {
  if (running) return;
  hideError();
  running = new AbortController();
  byId("cell-run").disabled = true;
  byId("cell-stop").disabled = false;
  byId("cell-output").replaceChildren();
  byId("cell-status").textContent = "Running";
  const address = session.wanted?.source.url ?? "";
  const names = { MODEL: address && new URL(address, document.baseURI).href };
  const options = { onEvent: write, signal: running.signal, interrupt: true, end: true };
  try {
    const done = await link.request("cell", [byId("cell").value, names], options);
    byId("cell-status").textContent = done.ok ? "Done" : done.stopped ? "Stopped" : "Ended with an error";
  } catch (error) {
    byId("cell-status").textContent = error.name === "AbortError" ? "Stopped" : "Python failed";
    if (error.name !== "AbortError") showError(error);
  } finally {
    running = null;
    byId("cell-run").disabled = false;
    byId("cell-stop").disabled = true;
  }
}

const stop = () => running?.abort();

/** Tab indents, as an editor does; after Escape it leaves, so that the keyboard is never caught. */
function editor(area) {
  let leaving = false;
  area.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      void run();
    } else if (event.key === "Tab" && !event.shiftKey && !leaving) {
      event.preventDefault();
      area.setRangeText(INDENT, area.selectionStart, area.selectionEnd, "end");
    }
    leaving = event.key === "Escape";
  });
}

export async function startPython() {
  editor(byId("cell"));
  byId("cell-form").addEventListener("submit", (event) => { event.preventDefault(); void run(); });
  byId("cell-stop").addEventListener("click", stop);
  byId("cell-copy").addEventListener("click", () => void copyText(byId("cell-output").textContent, byId("cell-copy")));
  const examples = await readExamples();
  const choose = () => { byId("cell").value = examples[byId("example").value].text; };
  byId("example").replaceChildren(...examples.map(({ title }, i) => new Option(title, String(i))));
  byId("example").addEventListener("change", choose);
  choose();
}
