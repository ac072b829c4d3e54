// settings.js: the sampling settings beside Write and Chat, kept from visit to visit.
import { byId } from "./dom.js";

const KEY = "ruvq-settings";
const NUMBERS = { "max-tokens": "maxTokens", temperature: "temperature", "top-p": "topP", "top-k": "topK",
  "min-p": "minP" };
const FIELDS = [...Object.keys(NUMBERS), "seed", "stop-text"];

/** The options of `generate`, or null when a field holds nonsense (the browser says which). */
export function readSettings() {
  if (!byId("settings").reportValidity()) return null;
  const options = Object.fromEntries(Object.entries(NUMBERS).map(([id, name]) => [name, byId(id).valueAsNumber]));
  if (byId("seed").value !== "") options.seed = byId("seed").valueAsNumber;
  if (byId("stop-text").value !== "") options.stop = [byId("stop-text").value];
  return options;
}

/** @returns {"javascript" | "pyodide"} */
export const chosenHost = () => document.querySelector("input[name=host]:checked").value;

/** @param {(host: string) => void} onHost called when another host is chosen */
export function startSettings(onHost) {
  restore();
  byId("settings").addEventListener("change", (event) => {
    if (event.target.name === "host") onHost(chosenHost());
    else keep();
  });
  byId("settings").addEventListener("submit", (event) => event.preventDefault());
  byId("settings-reset").addEventListener("click", () => {
    for (const id of FIELDS) byId(id).value = byId(id).defaultValue;
    keep();
  });
}

function keep() {
  try {
    localStorage.setItem(KEY, JSON.stringify(Object.fromEntries(FIELDS.map((id) => [id, byId(id).value]))));
  } catch {
    // storage is off: the settings last as long as the page
  }
}

function restore() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    for (const id of FIELDS) if (typeof kept[id] === "string") byId(id).value = kept[id];
  } catch {
    // storage is off, or holds something else
  }
}
