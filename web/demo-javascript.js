// demo-javascript.js: the page's JavaScript host: ruvq.js as any page would use it.
//
// A host, of which the page knows no more than this:
//   load(source, {onProgress, signal})             source is {url} or {file}; gives the model's info; the model
//                                                  loaded before, if any, is given up
//   generate(prompt, options, {onPiece, signal})   onPiece(text, tokensPerSecond); gives the stats
//   dispose()                                      ends everything
// Errors are RuvqErrors of errors.js.
import { AbortError, Model } from "./ruvq.js";

export const CODE = `import { Model } from "./ruvq.js";

const model = await Model.fetch("model.gguf", { onProgress });
for await (const piece of model.generate("Once upon a time", { maxTokens: 200 })) {
  output.append(piece);
}
model.dispose();`;

export class JavaScriptHost {
  async load({ url, file }, { onProgress, signal }) {
    this.dispose();
    const options = { onProgress, signal, verify: true };
    const model = url ? await Model.fetch(url, options) : await Model.open(file, options);
    if (signal.aborted) {
      model.dispose(); // it was ready in the moment in which it was stopped
      throw new AbortError();
    }
    this._model = model;
    return model.info;
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
