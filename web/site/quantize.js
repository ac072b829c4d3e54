// quantize.js: the view that quantizes a float model in the tab: the source, the formats, the results.
import { UsageError } from "../errors.js";
import { button, byId, bytes, duration, element, figure, hideError, saveFile, showError } from "./dom.js";
import { writableFormats } from "./formats.js";
import { chosenFiles, droppedFiles } from "./given-files.js";
import { open } from "./library.js";
import { histogram, lineChart } from "./plot.js";
import { PythonLink } from "./python-link.js";

const FIRST = ["pi-t3", "pi-t2"]; // chosen until the user chooses
const PLOT_WIDTH = 420;
const NO_WEIGHTS = ["f32", "f16", "bf16"]; // floats: nothing to quantize

const link = new PythonLink(() => new Worker(new URL("./quantize-worker.js", import.meta.url), { type: "module" }));
/** @type {import("./given-files.js").Given} */ let own = { folder: "", files: [] };
let running = null; // AbortController
/** @type {object[]} */ let results = [];

// ---- the source ----

const ownChosen = () => document.querySelector("input[name=source]:checked").value === "own";

/** @returns {Promise<{name: string, files: {name: string, data: Blob}[]}>} */
async function source() {
  if (!ownChosen()) {
    const { name, files } = await (await fetch("source/index.json")).json();
    const get = async (file) => ({ name: file, data: await (await fetch(`source/${file}`)).blob() });
    return { name, files: await Promise.all(files.map(get)) };
  }
  const { folder, files } = own;
  if (files.length === 0) {
    throw new UsageError("no model was chosen", {
      expected: "a float GGUF file, or weights with config.json and a tokenizer", hint: "drop or choose the files",
    });
  }
  const name = files.length === 1 ? files[0].name : folder;
  return { name, files: files.map((file) => ({ name: file.name, data: file })) };
}

function take(given) {
  own = given;
  const item = ({ name, size }) => element("li", { textContent: `${name}, ${bytes(size)}` });
  byId("source-list").replaceChildren(...own.files.map(item));
}

function wireSource() {
  const drop = byId("drop");
  for (const radio of document.querySelectorAll("input[name=source]")) {
    radio.addEventListener("change", () => { drop.hidden = !ownChosen(); });
  }
  for (const id of ["source-files", "source-folder"]) {
    byId(id).addEventListener("change", () => take(chosenFiles(byId(id).files)));
  }
  drop.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    droppedFiles(event.dataTransfer).then(take, showError);
  });
}

// ---- the work ----

function showWork(status, part) {
  byId("quantize-work").hidden = false;
  byId("quantize-status").textContent = status;
  if (part === undefined) byId("quantize-progress").removeAttribute("value");
  else byId("quantize-progress").value = part;
}

function setRunning(controller) {
  running = controller;
  byId("quantize-run").disabled = controller !== null;
  byId("quantize-stop").disabled = controller === null;
}

async function run() {
  const formats = [...document.querySelectorAll("#formats input:checked")].map((box) => box.value);
  hideError();
  setRunning(new AbortController());
  results = [];
  byId("quantize-results").hidden = true;
  showWork("Reading the model");
  try {
    if (formats.length === 0) throw new UsageError("no format was chosen", { hint: "choose one or more" });
    const { name, files } = await source();
    for (const [position, format] of formats.entries()) await quantize(name, files, format, position, formats.length);
    showWork(`Done: ${formats.join(", ")}`, 1);
  } catch (error) {
    const stopped = error.name === "AbortError";
    showWork(stopped ? "Cancelled; nothing was kept of the format under way" : "Quantizing failed", 0);
    if (!stopped) showError(error);
  } finally {
    setRunning(null);
  }
}

async function quantize(name, files, format, position, count) {
  const options = { format, embeddings: byId("embeddings").value, incoherence: byId("incoherence").value };
  const onEvent = ({ phase, tensor, done, total }) => {
    if (phase) showWork("Starting Python");
    else showWork(`${format}: ${tensor}, ${bytes(done)} of ${bytes(total)}`, (position + done / total) / count);
  };
  const stopping = { signal: running.signal, interrupt: true, end: true };
  const made = await link.request("quantize", [name, files, options], { onEvent, ...stopping });
  const blob = new File([made.data], `${name.replace(/\.\w+$/, "")}-${format}.gguf`);
  results.push({ ...made, data: null, blob, format });
  showResults();
}

// ---- the results ----

function resultRow(result) {
  const { report, blob, format } = result;
  const name = element("th", { scope: "row" });
  const look = { className: "quiet-button", "aria-label": `Plots of ${format}` };
  name.append(button(format, () => showPlots(result), look));
  const key = `made:${blob.name}:${blob.size}`;
  const actions = element("div", { className: "actions" },
    button("Download", () => saveFile(blob, blob.name), { "aria-label": `Download ${blob.name}` }),
    button("Run", () => {
      void open({ key, name: blob.name, source: { files: [blob] }, from: "made in this tab", bytes: blob.size });
      location.hash = "#write";
    }, { "aria-label": `Run ${blob.name}` }));
  const cells = [report.bits_per_weight_actual.toFixed(2), report.snr_db === null ? "exact" : figure(report.snr_db),
    report.mse.toExponential(2), bytes(blob.size), duration(report.seconds)];
  return element("tr", {}, name, ...cells.map((text) => element("td", { textContent: text })),
    element("td", {}, actions));
}

function showResults() {
  byId("quantize-results").hidden = false;
  byId("results").replaceChildren(...results.map(resultRow));
  showPlots(results.at(-1));
}

function showPlots(result) {
  const { format, histogram: { reach, weights, decoded }, spectrum, report } = result;
  const plots = [element("div", {}, element("h3", { textContent: `Weights on the grid of ${format}` }), histogram({
    label: `Histogram of the weights, and of the values that ${format} gives them, in units of the root mean square`,
    width: PLOT_WIDTH, low: -reach, high: reach, xLabel: "rms",
    series: [{ name: "weights", values: weights }, { name: `as ${format}`, values: decoded }],
  }))];
  if (spectrum) {
    const x = spectrum.signal.map((_, k) => k / (2 * spectrum.signal.length));
    plots.push(element("div", {}, element("h3", { textContent: "Spectral error, dB" }), lineChart({
      label: `Power of the weights and of the error of ${format} by frequency along a row, in dB over the weights`,
      width: PLOT_WIDTH, x, xLabel: "cycles per weight", zero: false,
      series: [{ name: "weights", values: spectrum.signal }, { name: "error", values: spectrum.error }],
    })));
  }
  byId("quantize-plots").replaceChildren(...plots);
  showTensors(report.tensors);
}

function showTensors(tensors) {
  const head = ["Tensor", "Format", "Shape", "Bits", "SNR, dB"];
  const row = ({ name, format, hadamard, shape, bpw, snr_db: snr }) => {
    const cells = [hadamard ? `${format} + Hadamard` : format, shape.join(" × "), bpw.toFixed(2),
      snr === null ? "exact" : figure(snr)];
    return element("tr", {}, element("th", { scope: "row", textContent: name }),
      ...cells.map((text) => element("td", { textContent: text })));
  };
  byId("tensors").replaceChildren(element("table", {},
    element("thead", {}, element("tr", {}, ...head.map((text) => element("th", { scope: "col", textContent: text })))),
    element("tbody", {}, ...tensors.map(row))));
}

export async function startQuantize() {
  wireSource();
  byId("quantize-form").addEventListener("submit", (event) => { event.preventDefault(); void run(); });
  byId("quantize-stop").addEventListener("click", () => running?.abort());
  const offered = ({ name }) => !NO_WEIGHTS.includes(name) && !name.endsWith("-ruvllm");
  const formats = (await writableFormats()).filter(offered);
  byId("formats").replaceChildren(...formats.map(({ name, bits }) => element("label", { className: "chip" },
    element("input", { type: "checkbox", name: "format", value: name, checked: FIRST.includes(name) }),
    element("span", {}, name, element("small", { textContent: ` ${bits.toFixed(2)}` })))));
  setRunning(null);
}
