// benchmark.js: the view that measures every format and makes a table to share.
import { errorFromPlain } from "../errors.js";
import { byId, copyText, element, figure, hideError, showError } from "./dom.js";
import { cellBar } from "./plot.js";

const WIDTH = 1024;
const COLUMNS = [
  { key: "format", title: "Format" },
  { key: "bits_per_weight", title: "Bits per weight" },
  { key: "snr_db", title: "SNR, dB" },
  { key: "encode_mweights_per_s", title: "Encode, M/s" },
  { key: "decode_mweights_per_s", title: "Decode, M/s", bar: true },
  { key: "matvec_mweights_per_s", title: "Multiply, M/s", bar: true },
];

let worker = null;
/** @type {{device: object, matrix: number[], rounds: number, rows: object[]} | null} */
let result = null;

const shown = (key, value) => (key === "format" ? value : value === null ? "exact" : figure(value));

function table(rows) {
  const best = Object.fromEntries(COLUMNS.map(({ key }) => [key, Math.max(...rows.map((row) => row[key] ?? 0))]));
  const titles = COLUMNS.map(({ title }) => element("th", { scope: "col", textContent: title }));
  const head = element("tr", {}, ...titles);
  const cell = (row, { key, bar }) => {
    const text = shown(key, row[key]);
    if (key === "format") return element("th", { scope: "row", textContent: text });
    return element("td", {}, bar ? cellBar(row[key] / best[key], text) : text);
  };
  const body = rows.map((row) => element("tr", {}, ...COLUMNS.map((column) => cell(row, column))));
  return element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
}

function markdown({ rows, matrix, rounds, device }) {
  const line = (cells) => `| ${cells.join(" | ")} |`;
  const body = rows.map((row) => line(COLUMNS.map(({ key }) => shown(key, row[key]))));
  const note = `ruvq in ${device.browser}, one thread, ${device.engine}; normal weights, ${matrix.join(" × ")}; `
    + `medians of ${rounds} rounds; M/s: million weights a second`;
  return [line(COLUMNS.map(({ title }) => title)), line(COLUMNS.map((c, i) => (i ? "---:" : "---"))), ...body, "", note]
    .join("\n");
}

function show() {
  byId("bench-results").hidden = result.rows.length === 0;
  if (result.rows.length === 0) return;
  byId("bench-table").replaceChildren(table(result.rows));
  const { matrix, rounds } = result;
  byId("bench-note").textContent = `Normal weights, ${matrix.join(" × ")}; medians of ${rounds} rounds; M/s: million `
    + "weights a second.";
}

function end(status) {
  worker?.terminate();
  worker = null;
  byId("bench-run").disabled = false;
  byId("bench-stop").disabled = true;
  byId("bench-status").textContent = status;
}

function receive({ measuring, done, total, row, variant, error }) {
  if (error) {
    showError(errorFromPlain(error));
    end("Measuring failed");
  } else if (measuring) byId("bench-status").textContent = `Measuring ${measuring}, ${done + 1} of ${total}`;
  else if (row) {
    result.rows.push(row);
    show();
  } else {
    result.device.engine = variant;
    end(`Done: ${result.rows.length} formats`);
  }
}

function run() {
  hideError();
  const rows = Number(byId("bench-size").value);
  const rounds = Number(byId("bench-rounds").value);
  const device = { browser: navigator.userAgent, cores: navigator.hardwareConcurrency, engine: "" };
  result = { device, date: new Date().toISOString(), matrix: [rows, WIDTH], rounds, rows: [] };
  byId("bench-run").disabled = true;
  byId("bench-stop").disabled = false;
  byId("bench-status").textContent = "Loading the engine";
  worker = new Worker(new URL("./bench-worker.js", import.meta.url), { type: "module" });
  worker.onmessage = ({ data }) => receive(data);
  worker.onerror = (event) => receive({ error: { summary: "the worker failed", actual: event.message } });
  worker.postMessage({ rows, width: WIDTH, rounds });
}

export function startBenchmark() {
  byId("bench-form").addEventListener("submit", (event) => { event.preventDefault(); run(); });
  byId("bench-stop").addEventListener("click", () => end("Stopped"));
  byId("bench-markdown").addEventListener("click", () => void copyText(markdown(result), byId("bench-markdown")));
  byId("bench-json").addEventListener("click",
    () => void copyText(JSON.stringify(result, null, 1), byId("bench-json")));
}
