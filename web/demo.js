// demo.js: the demo page's behaviour. Chooses a host and a model, writes what the model says, shows figures
// and errors. Knows hosts only by the interface at the top of demo-javascript.js.
import { CODE as JAVASCRIPT_CODE, JavaScriptHost } from "./demo-javascript.js";
import { CODE as PYTHON_CODE, PyodideHost } from "./demo-pyodide.js";
import { diagnose } from "./ruvq.js";

const HOSTS = {
  javascript: { make: () => new JavaScriptHost(), code: JAVASCRIPT_CODE },
  pyodide: { make: () => new PyodideHost(), code: PYTHON_CODE },
};
const PHASES = {
  engine: "Loading the engine",
  python: "Starting Python",
  packages: "Installing ruvq",
  download: "Downloading",
  read: "Reading",
  verify: "Checking weights",
  ready: "Ready",
};
const FROM_FILE = "file:";
const FROM_URL = "url:";

const element = (id) => document.getElementById(id);
const chosenHost = () => document.querySelector("input[name=host]:checked").value;

let host = null; // the one chosen; it holds one model at most
let hostName = "";
let loading = null; // AbortController
let writing = null; // AbortController
let source = null; // {url} or {file} of the model wanted

// ---- what the page shows ----

/** "starting", "choosing", "loading", "ready", "writing" or "failed"; tests and styles read it from the body. */
function setState(state) {
  document.body.dataset.state = state;
  element("run").disabled = state !== "ready";
  element("stop").disabled = state !== "loading" && state !== "writing";
  element("output").setAttribute("aria-busy", String(state === "writing"));
}

function showStatus(text) {
  element("status").textContent = text;
}

function showProgress({ phase, loaded, total }) {
  const bar = element("progress");
  if (total) bar.value = loaded / total;
  else if (phase === "ready") bar.value = 1;
  else bar.removeAttribute("value"); // moving, without a figure
  const amount = loaded ? `: ${total ? `${bytes(loaded)} of ${bytes(total)}` : bytes(loaded)}` : "";
  showStatus(phase === "ready" ? PHASES.ready : `${PHASES[phase] ?? phase}${amount}`);
}

function showError(error) {
  element("error-summary").textContent = error.subject
    ? `${error.subject}: ${error.summary}` : (error.summary ?? error.message);
  for (const field of ["expected", "actual", "hint"]) {
    element(`error-${field}`).textContent = error[field] ?? "";
    element(`error-${field}-row`).hidden = !error[field];
  }
  element("error").hidden = false;
}

function showFacts(info) {
  element("facts").hidden = !info;
  if (!info) return;
  element("fact-parameters").textContent = info.parameters.toLocaleString("en");
  element("fact-bits").textContent = info.bitsPerWeight.toFixed(2);
  const [format] = Object.entries(info.formats).sort((a, b) => b[1] - a[1])[0];
  element("fact-format").textContent = format;
  element("fact-file").textContent = bytes(info.fileBytes);
}

function showSpeed(tokensPerSecond) {
  element("stat-speed").textContent = tokensPerSecond.toFixed(tokensPerSecond < 100 ? 1 : 0);
}

function showStats(stats) {
  showSpeed(stats.tokensPerSecond);
  const first = stats.timeToFirstToken;
  element("stat-first").textContent = first === null ? "–" : `${(first * 1000).toFixed(first < 0.1 ? 1 : 0)} ms`;
  element("stat-tokens").textContent = `${stats.tokens} (prompt ${stats.promptTokens})`;
  element("stat-memory").textContent = bytes(stats.engineBytes);
}

function bytes(count) {
  if (count < 1000) return `${count} bytes`;
  return count < 1e6 ? `${(count / 1e3).toFixed(1)} kB` : `${(count / 1e6).toFixed(1)} MB`;
}

// ---- loading ----

async function load() {
  loading?.abort();
  writing?.abort();
  element("error").hidden = true;
  showFacts(null);
  if (!source) {
    setState("choosing");
    showStatus("Choose a model");
    element("progress").value = 0;
    return;
  }
  const mine = (loading = new AbortController());
  setState("loading");
  if (hostName !== chosenHost()) {
    host?.dispose();
    hostName = chosenHost();
    host = HOSTS[hostName].make();
  }
  const onProgress = (progress) => { if (loading === mine) showProgress(progress); };
  try {
    const info = await host.load(source, { onProgress, signal: mine.signal });
    if (loading !== mine) return;
    showFacts(info);
    showProgress({ phase: "ready" });
    showStatus(`${PHASES.ready}, on ${info.threads === 1 ? "one thread" : `${info.threads} threads`}`);
    setState("ready");
  } catch (error) {
    if (loading !== mine) return; // another load has begun since
    element("progress").value = 0;
    showStatus(error.name === "AbortError" ? "Loading was stopped" : "Loading failed");
    if (error.name !== "AbortError") showError(error);
    setState("failed");
  }
}

/** The bundled models, as the site's index lists them. */
async function listModels() {
  const select = element("model");
  let models = [];
  try {
    const response = await fetch("models/index.json");
    if (response.ok) models = await response.json();
  } catch {
    // a site without bundled models: files and addresses work
  }
  for (const { name, file, bytes: size, format, bits_per_weight_actual: bits } of models) {
    const label = `${name}: ${format}, ${bits.toFixed(2)} bits, ${bytes(size)}`;
    select.add(new Option(label, `models/${file}`));
  }
  select.add(new Option("A file on this device …", FROM_FILE));
  select.add(new Option("An address …", FROM_URL));
}

function chooseModel() {
  const value = element("model").value;
  element("file-field").hidden = value !== FROM_FILE;
  element("url-field").hidden = value !== FROM_URL;
  if (value === FROM_FILE) source = element("file").files[0] ? { file: element("file").files[0] } : null;
  else if (value === FROM_URL) source = element("url").value ? { url: element("url").value } : null;
  else source = { url: value };
  void load();
}

function chooseHost() {
  element("code").textContent = HOSTS[chosenHost()].code;
  void load();
}

// ---- writing ----

async function write() {
  if (document.body.dataset.state !== "ready" || !element("run-form").reportValidity()) return;
  const prompt = element("prompt").value;
  const options = { maxTokens: element("max-tokens").valueAsNumber, temperature: element("temperature").valueAsNumber };
  if (element("seed").value !== "") options.seed = element("seed").valueAsNumber;
  const output = element("output");
  const shownPrompt = Object.assign(document.createElement("span"), { className: "prompt", textContent: prompt });
  const text = document.createElement("span");
  output.replaceChildren(shownPrompt, text);
  element("error").hidden = true;
  writing = new AbortController();
  setState("writing");
  showStatus("Writing");
  const onPiece = (piece, tokensPerSecond) => {
    text.append(piece);
    if (tokensPerSecond) showSpeed(tokensPerSecond);
    output.scrollTop = output.scrollHeight;
  };
  try {
    const stats = await host.generate(prompt, options, { onPiece, signal: writing.signal });
    showStats(stats);
    showStatus(stats.finishReason === "aborted" ? "Stopped" : `Done: ${stats.tokens} tokens`);
    if (document.body.dataset.state === "writing") setState("ready");
  } catch (error) {
    if (document.body.dataset.state !== "writing") return; // another model was chosen meanwhile
    showError(error);
    showStatus("Writing failed");
    setState("ready");
  }
}

function stop() {
  writing?.abort();
  if (document.body.dataset.state === "loading") loading.abort();
}

// ---- wiring ----

async function start() {
  setState("starting");
  element("model").addEventListener("change", chooseModel);
  element("file").addEventListener("change", chooseModel);
  element("url-field").addEventListener("submit", (event) => { event.preventDefault(); chooseModel(); });
  for (const radio of document.querySelectorAll("input[name=host]")) radio.addEventListener("change", chooseHost);
  element("run-form").addEventListener("submit", (event) => { event.preventDefault(); void write(); });
  element("stop").addEventListener("click", stop);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") stop();
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      void write();
    }
  });
  element("code").textContent = HOSTS[chosenHost()].code;
  await listModels();
  chooseModel();
  const { advice } = await diagnose();
  element("advice").hidden = advice.length === 0;
  const item = (line) => Object.assign(document.createElement("li"), { textContent: line });
  element("advice").replaceChildren(...advice.map(item));
}

void start();
