// dom.js: the few helpers that every view uses: elements, figures as text, copying, errors.

/** @param {string} id @returns {any} */
export const byId = (id) => document.getElementById(id);

/**
 * An element with properties (attributes where the name has a dash, or the element has no such property) and
 * children.
 * @param {string} tag @param {Record<string, any>} [properties] @param {...(Node | string)} children
 */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** A button that does something. */
export function button(label, onclick, properties = {}) {
  return element("button", { type: "button", textContent: label, onclick, ...properties });
}

/** "12.3 MB". @param {number} count */
export function bytes(count) {
  if (count < 1000) return `${count} bytes`;
  if (count < 1e6) return `${(count / 1e3).toFixed(1)} kB`;
  return count < 1e9 ? `${(count / 1e6).toFixed(1)} MB` : `${(count / 1e9).toFixed(2)} GB`;
}

/** Three figures at least, without an exponent. @param {number} value */
export function figure(value) {
  if (!Number.isFinite(value)) return "∞";
  return value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : value.toFixed(0);
}

/** @param {number} seconds */
export const duration = (seconds) =>
  seconds < 1 ? `${(seconds * 1000).toFixed(seconds < 0.1 ? 1 : 0)} ms` : `${seconds.toFixed(1)} s`;

/** Copies a text; the button says that it did. @param {string} text @param {HTMLButtonElement} from */
export async function copyText(text, from) {
  from.dataset.label ??= from.textContent;
  try {
    await navigator.clipboard.writeText(text);
    from.textContent = "Copied";
  } catch {
    from.textContent = "Copying is not allowed here";
  }
  setTimeout(() => { from.textContent = from.dataset.label; }, 1500);
}

/** Shows what was expected, what was found and what to do. @param {any} error a RuvqError, or any other */
export function showError(error) {
  byId("error-summary").textContent = error.subject
    ? `${error.subject}: ${error.summary}` : (error.summary ?? error.message);
  for (const field of ["expected", "actual", "hint"]) {
    byId(`error-${field}`).textContent = error[field] ?? "";
    byId(`error-${field}-row`).hidden = !error[field];
  }
  byId("error").hidden = false;
  byId("error").scrollIntoView({ block: "nearest" });
}

export function hideError() {
  byId("error").hidden = true;
}

/** A file for the user's disk. @param {Blob} blob @param {string} name */
export function saveFile(blob, name) {
  const address = URL.createObjectURL(blob);
  element("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000); // the browser may still be reading it
}
