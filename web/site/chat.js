// chat.js: the view that talks. The conversation is kept as messages; the file's template makes the prompt. A
// model without one is not made to pretend: the view says so and offers to write instead.
import { button, byId, copyText, element } from "./dom.js";
import { meter } from "./meter.js";
import { session } from "./session.js";
import { readSettings } from "./settings.js";

/** @type {{role: "user" | "assistant", content: string}[]} */
let messages = [];

/** Why the loaded model can't chat, "" when it can, null while that isn't known. @type {string | null} */
let reason = null;
let askedOf = null; // the info of the model that was asked about

async function ask() {
  const { info } = session;
  if (info === askedOf) return;
  askedOf = info;
  reason = null;
  if (info) {
    const found = await session.cannotChat();
    if (askedOf !== info) return; // another model has been loaded since
    reason = found;
  }
  show();
}

function bubble({ role, content }) {
  const who = role === "user" ? "You" : "Model";
  const text = element("div", { className: "said", textContent: content });
  const made = element("article", { className: `bubble ${role}`, "aria-label": who },
    element("p", { className: "who", textContent: who }), text);
  if (role === "assistant") {
    const copy = button("Copy", () => void copyText(text.textContent, copy), { className: "quiet-button" });
    made.append(copy);
  }
  return { made, text };
}

function showTalk() {
  byId("chat-log").replaceChildren(...messages.map((message) => bubble(message).made));
}

/** Lets the model answer the messages so far. */
async function answer() {
  const options = readSettings();
  if (!options) return;
  const system = byId("chat-system").value.trim();
  const all = [...(system ? [{ role: "system", content: system }] : []), ...messages];
  const reply = { role: "assistant", content: "" };
  const talk = messages;
  const { made, text } = bubble(reply);
  const log = byId("chat-log");
  log.append(made);
  meter.start();
  const onPiece = (piece, figures) => {
    reply.content += piece;
    text.append(piece);
    meter.add(figures);
    log.scrollTop = log.scrollHeight;
  };
  const stats = await session.use((host, signal) => host.chat(all, options, { onPiece, signal }));
  meter.finish(stats);
  if (reply.content && talk === messages) messages.push(reply);
  if (!reply.content) made.remove();
  show();
}

function send() {
  const text = byId("chat-input").value.trim();
  if (!text || session.state !== "ready" || reason !== "") return;
  byId("chat-input").value = "";
  messages.push({ role: "user", content: text });
  showTalk();
  void answer();
}

function again() {
  if (messages.at(-1)?.role === "assistant") messages.pop();
  showTalk();
  void answer();
}

function show() {
  const { state } = session;
  byId("chat-none").hidden = !reason;
  byId("chat-talk").hidden = Boolean(reason);
  if (reason) {
    byId("chat-none-why").textContent = `${session.wanted.name}: ${reason}. It can continue texts; no template of `
      + "another model is put in its place.";
  }
  const ready = state === "ready" && reason === "";
  byId("chat-send").disabled = !ready;
  byId("chat-stop").disabled = state !== "writing";
  byId("chat-again").disabled = !ready || messages.length === 0;
  byId("chat-log").setAttribute("aria-busy", String(state === "writing"));
}

export function startChat() {
  byId("chat-form").addEventListener("submit", (event) => { event.preventDefault(); send(); });
  byId("chat-input").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  });
  byId("chat-stop").addEventListener("click", () => session.stop());
  byId("chat-again").addEventListener("click", again);
  byId("chat-new").addEventListener("click", () => {
    session.stop();
    messages = [];
    showTalk();
    show();
    byId("chat-input").focus();
  });
  session.addEventListener("change", () => { show(); void ask(); });
  show();
  void ask();
}
