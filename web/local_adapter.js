// local_adapter.js: LoRA adapters of a LocalModel, in engine memory. Their files come in as a model's do.
import { ModelLoader, measure } from "./model_loader.js";

/** Fills memory for an adapter while its file arrives; what doesn't fit the model fails with the header. */
export class AdapterLoader extends ModelLoader {
  /** @param {import("./local_model.js").LocalModel} model @param {{verify?: boolean}} [options] */
  constructor(model, { verify } = {}) {
    super(model.engine, { verify });
    this.options = { ...this.options, model };
    this._purpose = "the adapter";
  }

  _needed(file) {
    return measure(this.engine, "rq_adapter_measure", file.index, file.address, this.options.model._memory);
  }
}

/** An adapter that a model computes with from its first `setScale` on. */
export class LocalAdapter {
  /** Takes over `file`, which it doesn't need any more, and `memory` when it succeeds. */
  constructor(engine, file, memory, bytes, { model }) {
    engine.call("rq_adapter_open", file.index, file.address, model._memory, memory, memory + bytes);
    this.info = { name: file.metadata("general.name") ?? "", bytes };
    this._model = model;
    this._memory = memory;
    file.dispose();
    model.adapters.add(this);
  }

  /** The model computes with scale alpha / rank B (A x) beside each product, and forgets all tokens.
   * @param {number} scale */
  setScale(scale) {
    this._model.engine.call("rq_adapter_apply", this._memory, scale);
    this._model.reset();
  }

  /** The model computes without it, and forgets all tokens. May be called twice. */
  dispose() {
    const { _model: model } = this;
    if (!model.adapters.delete(this)) return;
    model.engine.call("rq_adapter_remove", this._memory);
    model.reset();
    model.engine.free(this._memory);
  }
}
