// host-python.js: the page's Python host. Pyodide runs in a worker, so that starting it does not freeze the
// page; there `import ruvq` does what the JavaScript host does here (same methods as JavaScriptHost).
import { UsageError } from "../errors.js";
import { PythonLink } from "./python-link.js";

export class PythonHost {
  static code = `import micropip
await micropip.install("ruvq")
import ruvq

model = await ruvq.Model.fetch("model.gguf", progress=progress)
async for piece in model.stream("Once upon a time", max_tokens=200):
    print(piece, end="")
model.close()`;

  constructor() {
    this._link = new PythonLink(new URL("./python-worker.js", import.meta.url));
  }

  async load({ url, file, files }, { onProgress, signal }) {
    if (files) throw new UsageError("shards from the disk are read by the JavaScript host", { hint: "choose it" });
    const address = url ? new URL(url, document.baseURI).href : URL.createObjectURL(file);
    try {
      return await this._link.request("load", [address], { onEvent: onProgress, signal });
    } finally {
      if (!url) URL.revokeObjectURL(address);
    }
  }

  generate(prompt, options, hooks) {
    return this._read("generate", prompt, options, hooks);
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
