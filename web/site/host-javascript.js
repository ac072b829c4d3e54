// host-javascript.js: the page's JavaScript host: ruvq.js as any page would use it.
//
// A host, of which the page knows no more than this:
//   load(source, {onProgress, signal})             source is {url, sha256} or {files}; gives the model's info;
//                                                  the model loaded before, if any, is given up
//   generate(prompt, options, {onPiece, signal})   onPiece(text, {tokensPerSecond, engineBytes}); gives the stats
//   chat(messages, options, {onPiece, signal})     the same for a conversation
//   cannotChat()                                   why the model can't, "" when it can
//   dispose()                                      ends everything
// Errors are RuvqErrors of errors.js.
import { AbortError, Model } from "../ruvq.js";

export class JavaScriptHost {
  static code = `import { Model } from "./ruvq.js";

const model = await Model.fetch("model.gguf", { onProgress });
for await (const piece of model.generate("Once upon a time", { maxTokens: 200 })) {
  output.append(piece);
}
model.dispose();`;

  async load({ url, sha256, files }, { onProgress, signal }) {
    this.dispose();
    const options = { onProgress, signal, verify: true };
    const model = url ? await Model.fetch(url, { ...options, sha256 }) : await Model.open(files, options);
    if (signal.aborted) {
      model.dispose(); // it was ready in the moment in which it was stopped
      throw new AbortError();
    }
    this._model = model;
    return model.info;
  }

  generate(prompt, options, { onPiece, signal }) {
    return this._read(this._model.generate(prompt, { ...options, signal }), onPiece);
  }

  async cannotChat() {
    try {
      await this._model.chatPrompt([{ role: "user", content: "Hello" }]);
      return "";
    } catch (error) {
      return error.summary ?? error.message;
    }
  }

  chat(messages, options, { onPiece, signal }) {
    return this._read(this._model.chat(messages, { ...options, signal }), onPiece);
  }

  async _read(generation, onPiece) {
    for await (const piece of generation) {
      onPiece(piece, { tokensPerSecond: generation.tokensPerSecond, engineBytes: this._model.engineBytes });
    }
    return generation.stats;
  }

  dispose() {
    this._model?.dispose();
    this._model = null;
  }
}
