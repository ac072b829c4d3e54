// model_options.js: how a model is opened, as the core wants to know it, and what is told of one that is open.
import { CONSTANTS as C, STRUCTS } from "./abi.js";
import { UsageError } from "./errors.js";

const KV_FLAGS = { f16: 0, f32: C.RQ_MODEL_KV_F32 };

/** Runs `body` with the address of the options in engine memory. @param {ReturnType<typeof encodeOptions>} options */
export function withOptions(engine, options, body) {
  return engine.withMemory(STRUCTS.rq_model_options.size, (address) => {
    engine.writeStruct("rq_model_options", address, options);
    return body(address);
  });
}

/** @param {import("./local_model.js").ModelOptions} options @returns the fields of rq_model_options */
export function encodeOptions({ context = 0, kv = "f16", batch = 0, hashes = false, scalar = false }) {
  if (!(kv in KV_FLAGS)) {
    throw new UsageError("unknown kind of KV cache", { subject: "kv", expected: '"f16" or "f32"', actual: String(kv) });
  }
  for (const [subject, value] of Object.entries({ context, batch })) {
    if (!Number.isInteger(value) || value < 0 || value > 0x7fffffff) {
      throw new UsageError("not a number of tokens", { subject, expected: "a whole number", actual: String(value) });
    }
  }
  const flags = KV_FLAGS[kv] | (hashes ? C.RQ_MODEL_HASHES : 0) | (scalar ? C.RQ_MODEL_SCALAR : 0);
  return { context_tokens: context, batch_tokens: batch, flags };
}

/** What a user wants to know of a model. */
export function describe(file, shape, tokenizer) {
  const tensors = file.tensors();
  const bytes = tensors.reduce((sum, t) => sum + t.bytes, 0);
  const weights = tensors.reduce((sum, t) => sum + t.rows * t.width, 0);
  const formats = {}; // format → weights in it
  for (const t of tensors) formats[t.format] = (formats[t.format] ?? 0) + t.rows * t.width;
  return {
    name: file.metadata("general.name") ?? "",
    architecture: file.metadata("general.architecture"),
    parameters: shape.parameters,
    formats,
    bitsPerWeight: (bytes * 8) / weights,
    fileBytes: file.bytes,
    weightBytes: bytes,
    kvBytes: shape.kv_bytes,
    memoryBytes: shape.memory_bytes,
    vocabularySize: shape.vocab_size,
    contextTrained: shape.context_trained,
    context: shape.context_tokens,
    layers: shape.layers,
    width: shape.width,
    heads: shape.heads,
    kvHeads: shape.kv_heads,
    feedForwardWidth: shape.ff_width,
    tokenizer: tokenizer.kind,
  };
}
