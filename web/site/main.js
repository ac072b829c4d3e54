// main.js: starts the page: the view that the address names, the model it opens with. The views of Write and
// Chat come with the page; the others are fetched when they are first looked at.
import { byId, hideError } from "./dom.js";
import { startLibrary } from "./library.js";
import { session } from "./session.js";
import { chosenHost, startSettings } from "./settings.js";
import { startWrite } from "./write.js";

const LATER = {
  chat: async () => (await import("./chat.js")).startChat(),
  quantize: async () => (await import("./quantize.js")).startQuantize(),
  benchmark: async () => (await import("./benchmark.js")).startBenchmark(),
  python: async () => (await import("./python.js")).startPython(),
};
const VIEWS = ["write", "chat", "models", "quantize", "benchmark", "python"];
const started = new Set(["write", "models"]);

/** Shows the view of the address; a hash that names none is left to the browser ("Skip to the content"). */
function route(event) {
  const name = location.hash.slice(1) || VIEWS[0];
  if (!VIEWS.includes(name)) return;
  for (const view of VIEWS) byId(`view-${view}`).hidden = view !== name;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.body.dataset.view = name;
  byId("rail").hidden = name !== "write" && name !== "chat";
  const heading = byId(`${name}-heading`);
  document.title = `${heading.textContent} · ruvq`;
  if (event) {
    hideError();
    window.scrollTo(0, 0);
    heading.focus({ preventScroll: true }); // says the view's name to a screen reader
  }
  if (!started.has(name)) {
    started.add(name);
    void LATER[name]();
  }
}

function start() {
  byId("error-close").addEventListener("click", hideError);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") session.stop(); });
  startSettings((host) => session.chooseHost(host));
  session.hostName = chosenHost(); // a browser may have kept the choice of the page's last visit
  startWrite();
  window.addEventListener("hashchange", route);
  route();
  void startLibrary();
}

start();
