// write.js: the view that continues a text.
import { byId, copyText, element } from "./dom.js";
import { meter } from "./meter.js";
import { session } from "./session.js";
import { readSettings } from "./settings.js";

async function write() {
  if (session.state !== "ready") return;
  const options = readSettings();
  if (!options) return;
  const prompt = byId("prompt").value;
  const output = byId("output");
  const text = element("span");
  output.replaceChildren(element("span", { className: "prompt", textContent: prompt }), text);
  meter.start();
  const onPiece = (piece, figures) => {
    text.append(piece);
    meter.add(figures);
    output.scrollTop = output.scrollHeight;
  };
  meter.finish(await session.use((host, signal) => host.generate(prompt, options, { onPiece, signal })));
}

function show() {
  const { state } = session;
  byId("run").disabled = state !== "ready";
  byId("stop").disabled = state !== "loading" && state !== "writing";
  const written = byId("output").querySelector(".prompt") !== null;
  byId("again").disabled = state !== "ready" || !written;
  byId("copy").disabled = !written;
  byId("output").setAttribute("aria-busy", String(state === "writing"));
  byId("code").textContent = session.code;
}

export function startWrite() {
  byId("run-form").addEventListener("submit", (event) => { event.preventDefault(); void write(); });
  byId("again").addEventListener("click", () => void write());
  byId("stop").addEventListener("click", () => session.stop());
  byId("copy").addEventListener("click", () => void copyText(byId("output").textContent, byId("copy")));
  document.addEventListener("keydown", (event) => {
    const wanted = event.key === "Enter" && (event.ctrlKey || event.metaKey);
    if (!wanted || document.body.dataset.view !== "write") return;
    event.preventDefault();
    void write();
  });
  session.addEventListener("change", show);
  show();
}
