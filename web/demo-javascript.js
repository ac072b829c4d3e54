// demo-javascript.js: the page's JavaScript host: ruvq.js as any page would use it.
//
// A host, of which the page knows no more than this:
//   load(source, {onProgress, signal})         source is {url} or {file}; gives the model's info
//   generate(prompt, options, {onPiece, signal})   onPiece(text, tokensPerSecond); gives the stats
//   dispose()                                  ends everything
// Errors are RuvqErrors of errors.js.
import { Model } from "./ruvq.js";

export const CODE = `import { Model } from "./ruvq.js";

const model = await Model.fetch("model.gguf", { onProgress });
for await (const piece of model.generate("Once upon a time", { maxTokens: 200 })) {
  output.append(piece);
}
model.dispose();`;

export class JavaScriptHost {
  async load({ url, file }, { onProgress, signal }) {
    const options = { onProgress, signal, verify: true };
    this._model = url ? await Model.fetch(url, options) : await Model.open(file, options);
    return this._model.info;
  }

  async generate(prompt, options, { onPiece, signal }) {
    const generation = this._model.generate(prompt, { ...options, signal });
    for await (const piece of generation) onPiece(piece, generation.tokensPerSecond);
    return generation.stats;
  }

  dispose() {
    this._model?.dispose();
    this._model = null;
  }
}
