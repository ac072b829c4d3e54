// session.js: the model in use: which host runs it, what state that is in. Views listen to "change" and never
// talk to a host outside `use`.
import { PythonHost } from "./host-python.js";
import { JavaScriptHost } from "./host-javascript.js";
import { bytes, byId, hideError, showError } from "./dom.js";

const HOSTS = { javascript: JavaScriptHost, pyodide: PythonHost };
const PHASES = {
  engine: "Loading the engine",
  wait: "Another tab fetches the same file",
  cache: "Reading what is kept",
  python: "Starting Python",
  download: "Downloading",
  read: "Reading",
  verify: "Checking the weights",
};

/**
 * @typedef {{name: string, source: {url?: string, sha256?: string, files?: Blob[]}, key: string}} Wanted
 */
class Session extends EventTarget {
  constructor() {
    super();
    /** @type {"starting" | "choosing" | "loading" | "ready" | "writing" | "failed"} */
    this.state = "starting";
    /** What the loaded model's file holds, null without one. */
    this.info = null;
    /** @type {Wanted | null} */
    this.wanted = null;
    this.hostName = "javascript";
    this._host = null;
    this._loading = null; // AbortController
    this._using = null; // AbortController
  }

  get code() {
    return HOSTS[this.hostName].code;
  }

  /** Loads a model, giving up the one before. Shows its own errors. @param {Wanted} wanted */
  async load(wanted) {
    this._loading?.abort();
    this._using?.abort();
    hideError();
    this.info = null;
    this.wanted = wanted;
    const mine = (this._loading = new AbortController());
    const current = () => this._loading === mine;
    byId("progress").removeAttribute("value"); // until there is a figure
    this._set("loading", "Loading");
    this._host ??= new HOSTS[this.hostName]();
    const onProgress = (progress) => { if (current()) showProgress(progress); };
    try {
      const info = await this._host.load(wanted.source, { onProgress, signal: mine.signal });
      if (!current()) return;
      this.info = info;
      const threads = info.threads === 1 ? "one thread" : `${info.threads} threads`;
      this._set("ready", `Ready, on ${threads}`);
    } catch (error) {
      if (!current()) return; // another load has begun since
      const stopped = error.name === "AbortError";
      if (!stopped) showError(error);
      this._set("failed", stopped ? "Loading was stopped" : "Loading failed");
    }
  }

  /** Why the loaded model can't chat, "" when it can. @returns {Promise<string>} */
  cannotChat() {
    return this._host.cannotChat();
  }

  /** Runs the same model by the other host. @param {"javascript" | "pyodide"} name */
  chooseHost(name) {
    this._host?.dispose();
    this._host = null;
    this.hostName = name;
    if (this.wanted) return this.load(this.wanted);
    this._set("choosing", "Choose a model");
    return Promise.resolve();
  }

  /**
   * Lets the model work: `task(host, signal)`, which gives stats. Shows its own errors.
   * @returns {Promise<object | null>} the stats, null after an error or when another model was chosen meanwhile
   */
  async use(task) {
    if (this.state !== "ready") return null;
    hideError();
    const mine = (this._using = new AbortController());
    this._set("writing", "Writing");
    try {
      const stats = await task(this._host, mine.signal);
      if (this._using === mine && this.state === "writing") {
        this._set("ready", stats.finishReason === "aborted" ? "Stopped" : `Done: ${stats.tokens} tokens`);
      }
      return stats;
    } catch (error) {
      if (this._using !== mine || this.state !== "writing") return null;
      showError(error);
      this._set("ready", "Writing failed");
      return null;
    }
  }

  /** Stops loading or writing; what was written stands. */
  stop() {
    if (this.state === "writing") this._using.abort();
    if (this.state === "loading") this._loading.abort();
  }

  /** Says that there is nothing to load yet. */
  choose() {
    this._set("choosing", "Choose a model");
  }

  _set(state, status) {
    this.state = state;
    document.body.dataset.state = state; // tests and styles read it from there
    byId("status").textContent = status;
    byId("progress").hidden = state !== "loading";
    showModel(this.wanted, this.info);
    this.dispatchEvent(new Event("change"));
  }
}

function showProgress({ phase, loaded, total }) {
  const bar = byId("progress");
  if (phase === "ready") return;
  if (total) bar.value = loaded / total;
  else bar.removeAttribute("value"); // moving, without a figure
  const amount = loaded ? `: ${total ? `${bytes(loaded)} of ${bytes(total)}` : bytes(loaded)}` : "";
  byId("status").textContent = `${PHASES[phase] ?? phase}${amount}`;
}

function showModel(wanted, info) {
  byId("now-name").textContent = wanted?.name ?? "No model";
  byId("now-facts").textContent = info
    ? `${mainFormat(info)}, ${info.bitsPerWeight.toFixed(2)} bits per weight, ${bytes(info.fileBytes)}` : "";
}

/** The format that most weights are in. */
export const mainFormat = (info) => Object.entries(info.formats).sort((a, b) => b[1] - a[1])[0][0];

export const session = new Session();
