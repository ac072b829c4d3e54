// host-python.js: the page's Python host. Pyodide runs in a worker, so that starting it does not freeze the
// page; there `import ruvq` does what the JavaScript host does here (same methods as JavaScriptHost).
import { PythonLink } from "./python-link.js";
import { pythonWorker } from "./python-start.js";

export class PythonHost {
  static code = `import micropip
await micropip.install("ruvq")
import ruvq

model = await ruvq.Model.fetch("model.gguf", progress=progress)
async for piece in model.stream("Once upon a time", max_tokens=200):
    print(piece, end="")
model.close()`;

  constructor() {
    this._link = new PythonLink(pythonWorker);
  }

  async load({ url, sha256 = "", files }, { onProgress, signal }) {
    const made = url ? [] : files.map((file) => URL.createObjectURL(file));
    const addresses = url ? [new URL(url, document.baseURI).href] : made;
    try {
      return await this._link.request("load", [addresses, sha256], { onEvent: onProgress, signal, end: true });
    } finally {
      made.forEach((address) => URL.revokeObjectURL(address));
    }
  }

  generate(prompt, options, hooks) {
    return this._read("generate", prompt, options, hooks);
  }

  cannotChat() {
    return this._link.request("cannotChat", []);
  }

  chat(messages, options, hooks) {
    return this._read("chat", messages, options, hooks);
  }

  _read(call, input, options, { onPiece, signal }) {
    const onEvent = ({ text, tokensPerSecond }) => onPiece(text, { tokensPerSecond });
    return this._link.request(call, [input, options], { onEvent, signal });
  }

  dispose() {
    this._link.close();
  }
}
