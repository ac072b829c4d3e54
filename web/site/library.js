// library.js: the view of the models: those of the site, of the disk, of an address; what each needs and what
// this device has.
import { diagnose } from "../ruvq.js";
import { button, byId, bytes, element } from "./dom.js";
import { session } from "./session.js";

/**
 * @typedef {object} Entry of the library
 * @property {string} key of its own
 * @property {string} name
 * @property {{url?: string, file?: Blob}} source
 * @property {string} from where it is
 * @property {number} [bytes] of the file
 * @property {string} [format] that most weights are in
 * @property {number} [bits] per weight, actual
 * @property {number} [memoryBytes] to run it: file, cache and activations
 */
/** @type {Entry[]} */
const entries = [];

/** The bundled models, as the site's index lists them. */
async function readIndex() {
  try {
    const response = await fetch("models/index.json");
    if (!response.ok) return [];
    return (await response.json()).map((model) => ({
      key: `models/${model.file}`,
      name: `${model.name} ${model.format}`,
      source: { url: `models/${model.file}` },
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

function openFile(file) {
  return open({ key: `file:${file.name}:${file.size}`, name: file.name, source: { file }, from: "on your disk",
    bytes: file.size });
}

function openAddress(address) {
  const name = decodeURIComponent(new URL(address, document.baseURI).pathname.split("/").pop()) || address;
  return open({ key: address, name, source: { url: address }, from: new URL(address, document.baseURI).host });
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
    ["From", entry.from],
  ].filter(([, value]) => value);
  const title = element("h2", { textContent: entry.name });
  if (current) title.append(" ", element("span", { className: "badge", textContent: "in use" }));
  const actions = element("div", { className: "actions" });
  actions.append(current
    ? element("a", { className: "button primary", href: "#write", textContent: "Write with it" })
    : button("Load", () => void open(entry), { "aria-label": `Load ${entry.name}` }));
  return element("li", { className: "card" }, title,
    element("dl", { className: "facts" }, ...facts.map(([name, value]) => fact(name, value))), actions);
}

function show() {
  learn();
  byId("library").replaceChildren(...entries.map(card));
}

async function showDevice() {
  const report = await diagnose();
  const memory = report.deviceMemoryBytes;
  byId("device").replaceChildren(
    fact("Memory", memory === null ? "not told by this browser" : `about ${memory / 2 ** 30} GiB`),
    fact("Largest engine", `${report.engineLimitBytes / 2 ** 30} GiB`),
    fact("Threads", String(report.defaultThreads)),
    fact("Instructions", report.relaxedSimd ? "relaxed SIMD" : report.simd ? "SIMD" : "no SIMD"),
  );
  byId("advice").hidden = report.advice.length === 0;
  byId("advice").replaceChildren(...report.advice.map((line) => element("li", { textContent: line })));
}

/** Lists the models and opens the first. */
export async function startLibrary() {
  byId("file").addEventListener("change", () => {
    const [file] = byId("file").files;
    if (file) void openFile(file);
  });
  byId("url-form").addEventListener("submit", (event) => {
    event.preventDefault();
    void openAddress(byId("url").value);
  });
  session.addEventListener("change", show);
  entries.push(...await readIndex());
  if (session.wanted) show(); // something was opened meanwhile
  else if (entries.length) void session.load(entries[0]);
  else session.choose();
  void showDevice();
}
