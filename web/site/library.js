// library.js: the view of the models: those of the site, of the disk, of an address; what each needs and what
// this device has; which are kept here, whether they are still whole, deleting them.
import { ModelLibrary, diagnose } from "../ruvq.js";
import { button, byId, bytes, element, hideError, showError } from "./dom.js";
import { session } from "./session.js";

/**
 * @typedef {object} Entry of the library
 * @property {string} key of its own
 * @property {string} name
 * @property {{url?: string, sha256?: string, files?: Blob[]}} source
 * @property {string} from where it is
 * @property {number} [bytes] of the file
 * @property {string} [format] that most weights are in
 * @property {number} [bits] per weight, actual
 * @property {number} [memoryBytes] to run it: file, cache and activations
 */
/** @type {Entry[]} */
const entries = [];
/** @type {ModelLibrary | null} */ let store = null;
/** Absolute address → what is kept of it. @type {Map<string, import("../model_store.js").StoredModel>} */
let kept = new Map();
let deviceBytes = Infinity; // that a model may take
/** @type {Map<string, string>} what was found of an entry, by key */
const findings = new Map();

const absolute = (url) => new URL(url, document.baseURI).href;
const nameOf = (address) => decodeURIComponent(new URL(address, document.baseURI).pathname.split("/").pop()) || address;

/** The bundled models, as the site's index lists them. */
async function readIndex() {
  try {
    const response = await fetch("models/index.json");
    if (!response.ok) return [];
    return (await response.json()).map((model) => ({
      key: `models/${model.file}`,
      name: `${model.name} ${model.format}`,
      source: { url: `models/${model.file}`, sha256: model.sha256 },
      from: "on this site",
      bytes: model.bytes,
      format: model.format,
      bits: model.bits_per_weight_actual,
      memoryBytes: model.memory_bytes,
    }));
  } catch {
    return []; // a site without bundled models: files and addresses work
  }
}

/** Adds a model, or finds the one with its key, and loads it. @param {Entry} entry */
export function open(entry) {
  const known = entries.findIndex(({ key }) => key === entry.key);
  if (known < 0) entries.unshift(entry);
  else entries[known] = { ...entries[known], ...entry };
  return session.load(entry);
}

/** One file, or all shards of a model, which their names put in order. @param {File[]} files */
function openFiles(files) {
  const sorted = [...files].sort((a, b) => (a.name < b.name ? -1 : 1));
  const size = sorted.reduce((sum, file) => sum + file.size, 0);
  const name = sorted.length === 1 ? sorted[0].name : `${sorted[0].name} and ${sorted.length - 1} more`;
  return open({ key: `file:${name}:${size}`, name, source: { files: sorted }, from: "on your disk", bytes: size });
}

const fromAddress = (address) => ({ key: address, name: nameOf(address), source: { url: address },
  from: new URL(address, document.baseURI).host });

// ---- what is kept ----

/** Reads the store anew; models of other addresses that it holds join the list. */
async function readStore() {
  try {
    store ??= await ModelLibrary.open();
    kept = new Map((await store.list()).map((model) => [model.url, model]));
  } catch (error) {
    byId("store-note").textContent = `Nothing is kept: ${error.summary ?? error.message}`;
    return;
  }
  const known = new Set(entries.map(({ source }) => source.url && absolute(source.url)));
  for (const { url, total } of kept.values()) {
    if (!known.has(url)) entries.push({ ...fromAddress(url), bytes: total ?? undefined });
  }
  const { used, free } = await store.estimate();
  byId("store-note").textContent = store.notice || `Models kept in this browser: ${bytes(used)}`
    + `${free === null ? "" : `; room for ${bytes(free)} more`}.`;
  show();
}

/** Runs something of the store for an entry; what it finds, or what goes wrong, is shown. */
async function withStore(entry, task) {
  hideError();
  try {
    findings.set(entry.key, await task());
  } catch (error) {
    findings.delete(entry.key);
    showError(error);
  }
  await readStore();
}

const verify = (entry) => withStore(entry, async () => {
  const onProgress = ({ loaded, total }) => {
    findings.set(entry.key, `checking ${bytes(loaded)} of ${bytes(total)}`);
    show();
  };
  const { sha256 } = await store.verify(absolute(entry.source.url), { onProgress });
  return `whole, SHA-256 ${sha256.slice(0, 12)}…`;
});

const remove = (entry) => withStore(entry, async () => {
  await store.delete(absolute(entry.source.url));
  return "deleted from this browser";
});

function keptText({ source, key }) {
  if (findings.has(key)) return findings.get(key);
  const found = source.url && kept.get(absolute(source.url));
  if (!found) return source.url ? "no" : null;
  if (!found.complete) return `${bytes(found.bytes)} of it`;
  return found.verified ? "yes, checked" : "yes";
}

// ---- what it shows ----

function fact(name, value) {
  return element("div", {}, element("dt", { textContent: name }), element("dd", { textContent: value }));
}

/** What the running model's file says replaces what was guessed. */
function learn() {
  if (session.state !== "ready" || !session.info) return;
  const entry = entries.find(({ key }) => key === session.wanted?.key);
  if (!entry) return;
  const { fileBytes, memoryBytes, bitsPerWeight, formats } = session.info;
  entry.bytes = fileBytes;
  entry.bits = bitsPerWeight;
  entry.format = Object.entries(formats).sort((a, b) => b[1] - a[1])[0][0];
  entry.memoryBytes = fileBytes + memoryBytes;
}

function card(entry) {
  const current = entry.key === session.wanted?.key && ["loading", "ready", "writing"].includes(session.state);
  const facts = [
    ["Format", entry.format], ["Bits per weight", entry.bits?.toFixed(2)], ["File", entry.bytes && bytes(entry.bytes)],
    ["Memory to run", entry.memoryBytes ? bytes(entry.memoryBytes) : entry.bytes && `${bytes(entry.bytes)} and more`],
    ["From", entry.from], ["Kept in this browser", keptText(entry)],
  ].filter(([, value]) => value);
  const title = element("h2", { textContent: entry.name });
  if (current) title.append(" ", element("span", { className: "badge", textContent: "in use" }));
  const actions = element("div", { className: "actions" });
  actions.append(current
    ? element("a", { className: "button primary", href: "#write", textContent: "Write with it" })
    : button("Load", () => void open(entry), { "aria-label": `Load ${entry.name}` }));
  if (entry.source.url && kept.has(absolute(entry.source.url))) {
    const quiet = (label) => ({ className: "quiet-button", "aria-label": `${label} ${entry.name}` });
    actions.prepend(button("Delete", () => void remove(entry), quiet("Delete")));
    if (kept.get(absolute(entry.source.url)).complete) {
      actions.prepend(button("Verify", () => void verify(entry), quiet("Verify")));
    }
  }
  const made = element("li", { className: "card" }, title,
    element("dl", { className: "facts" }, ...facts.map(([name, value]) => fact(name, value))), actions);
  const needed = entry.memoryBytes ?? entry.bytes ?? 0;
  if (needed > deviceBytes) {
    made.append(element("p", { className: "warning", textContent:
      `It needs ${bytes(needed)}, and this device gives a model ${bytes(deviceBytes)}.` }));
  }
  return made;
}

function show() {
  learn();
  byId("library").replaceChildren(...entries.map(card));
}

async function showDevice() {
  const report = await diagnose();
  const memory = report.deviceMemoryBytes;
  deviceBytes = Math.min(report.engineLimitBytes, memory ?? Infinity);
  byId("device").replaceChildren(
    fact("Memory", memory === null ? "not told by this browser" : `about ${memory / 2 ** 30} GiB`),
    fact("Largest engine", `${report.engineLimitBytes / 2 ** 30} GiB`),
    fact("Threads", String(report.defaultThreads)),
    fact("Instructions", report.relaxedSimd ? "relaxed SIMD" : report.simd ? "SIMD" : "no SIMD"),
  );
  byId("advice").hidden = report.advice.length === 0;
  byId("advice").replaceChildren(...report.advice.map((line) => element("li", { textContent: line })));
}

/** Lists the models and opens the first; the store is looked at when that has happened, so as not to delay it. */
export async function startLibrary() {
  byId("file").addEventListener("change", () => {
    if (byId("file").files.length) void openFiles(byId("file").files);
  });
  byId("url-form").addEventListener("submit", (event) => {
    event.preventDefault();
    void open(fromAddress(byId("url").value));
  });
  session.addEventListener("change", () => {
    show();
    if (session.state === "ready" || session.state === "failed") void readStore();
  });
  entries.push(...await readIndex());
  if (session.wanted) show(); // something was opened meanwhile
  else if (entries.length) void session.load(entries[0]);
  else session.choose();
  await showDevice();
  show();
}
