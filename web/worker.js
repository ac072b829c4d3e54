// worker.js: one worker, one engine, at most one model. Everything slow happens here, in short steps, so that
// a message (stop, above all) is heard between any two tokens.
//
// Page → worker:   {id, call, args}          a request; `call` names one of the CALLS below
//                  {cancel: id}              stop the request with this id
// Worker → page:   {id, event, ...}          progress and pieces of text, before the answer
//                  {id, value}               the answer
//                  {id, error}               errorToPlain() of what went wrong
import { answerOptions, chatPrompt } from "./chat.js";
import { download, readLocal } from "./download.js";
import { AbortError, MemoryLimitError, UsageError, errorToPlain } from "./errors.js";
import { ModelLoader } from "./local_model.js";
import { loadEngine } from "./threads.js";

/** Requests that run now: id → AbortController. */
const running = new Map();
/** @type {import("./engine.js").Engine} */ let engine;
/** @type {import("./local_model.js").LocalModel} */ let model;

const CALLS = {
  /** Loads engine and model. args: {urls, threads, splitAll, url | source, options} */
  async load({ urls, threads, splitAll, ...from }, { signal, emit }) {
    if (model) throw new UsageError("this worker holds a model already");
    const onProgress = atMostEvery(PROGRESS_MS, (progress) => emit("progress", progress));
    onProgress({ phase: "engine", loaded: 0, total: null });
    const started = performance.now();
    engine = await loadEngine(urls, threads, { signal, splitAll });
    let times;
    try {
      times = await loadModel(from, signal, onProgress);
    } catch (error) {
      if (!(error instanceof MemoryLimitError) || !engine.pool || engine.limitBytes >= 2 ** 32) throw error;
      engine.pool.close();
      const note = `the device gives threads ${engine.limitBytes / 2 ** 20} MB of memory, too little for this model`;
      engine = await loadEngine(urls, 1, { signal, note });
      times = await loadModel(from, signal, onProgress);
    }
    if (engine.pool) {
      await engine.pool.started;
      Object.assign(model.info, { threads: engine.pool.count, threadsNote: engine.pool.note });
    }
    onProgress.flush();
    emit("progress", { phase: "ready", loaded: model.info.fileBytes, total: model.info.fileBytes });
    const ready = performance.now();
    const { begun, arrived } = times;
    const seconds = { engine: begun - started, transfer: arrived - begun, open: ready - arrived, all: ready - started };
    for (const phase of Object.keys(seconds)) seconds[phase] /= 1000;
    const info = { ...model.info, engineVariant: engine.variant };
    return { info, loadSeconds: seconds, engineBytes: engine.memoryBytes };
  },

  /** Generates; emits {event: "piece", text} and {event: "prompt", done, total}; answers with the stats. */
  async generate({ prompt, options }, { signal, emit }) {
    const steps = model.generate(prompt, options);
    await inSteps(steps, signal, (step) => {
      if (step.kind === "prompt") emit("prompt", { done: step.done, total: step.total });
      else emit("piece", { text: step.text, tokens: model.stats.tokens, tokensPerSecond: model.stats.tokensPerSecond });
    });
    return { ...model.stats, engineBytes: engine.memoryBytes };
  },

  /** Answers a conversation, as `generate` does. args: {prompt: messages, options}; see chat.js. */
  async chat({ prompt: messages, options }, context) {
    const prompt = await chatPrompt(model, messages, options);
    return CALLS.generate({ prompt: prompt.ids, options: answerOptions(model, prompt, options) }, context);
  },
  chatPrompt: ({ messages, options }) => chatPrompt(model, messages, options),

  tokenize: ({ text, options }) => model.tokenize(text, options),
  detokenize: ({ ids, options }) => model.detokenize(ids, options),
  hashes: () => model.hashes(),
  memory: () => engine.memoryBytes,
};

const PROGRESS_MS = 50;

/** Sets `model` to the one at `url`, or in `source`; when its bytes began to come, and were all there. */
async function loadModel({ url, source, options }, signal, onProgress) {
  const loader = new ModelLoader(engine, options);
  const begun = performance.now();
  try {
    if (url !== undefined) await download(url, loader, { signal, onProgress });
    else await readLocal(source, loader, { signal, onProgress });
    const arrived = performance.now();
    model = await inSteps(loader.end(), signal, ([loaded, total]) => onProgress({ phase: "verify", loaded, total }));
    if (!model) throw new AbortError();
    return { begun, arrived };
  } catch (error) {
    loader.abandon();
    throw error;
  }
}

/**
 * Drives a generator one step a task. An abort closes it between two steps and gives undefined.
 * @template T @param {Generator<any, T>} steps @param {AbortSignal} signal @param {(step: any) => void} onStep
 * @returns {Promise<T | undefined>}
 */
async function inSteps(steps, signal, onStep) {
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
    onStep(value);
    await nextTask();
    if (signal.aborted) {
      steps.return();
      return undefined;
    }
  }
}

// Messages between the two ends of a channel are tasks: unlike timers they come at once, and unlike promises
// they let the page's messages in.
const channel = new MessageChannel();
const waiting = [];
channel.port1.onmessage = () => waiting.shift()();
function nextTask() {
  return new Promise((resolve) => {
    waiting.push(resolve);
    channel.port2.postMessage(null);
  });
}

/** Passes on one call per `ms`, the first and the last among them, and every change of phase at once. */
function atMostEvery(ms, send) {
  let last = -Infinity;
  let phase = "";
  let held = null;
  let timer = 0;
  const limited = (progress) => {
    held = progress;
    if (performance.now() - last >= ms || progress.phase !== phase) limited.flush();
    else timer ||= setTimeout(limited.flush, ms);
  };
  limited.flush = () => {
    clearTimeout(timer);
    timer = 0;
    if (!held) return;
    last = performance.now();
    phase = held.phase;
    send(held);
    held = null;
  };
  return limited;
}

self.onmessage = async ({ data }) => {
  if (data.cancel !== undefined) {
    running.get(data.cancel)?.abort();
    return;
  }
  const { id, call, args } = data;
  const controller = new AbortController();
  running.set(id, controller);
  const emit = (event, fields) => self.postMessage({ id, event, ...fields });
  try {
    if (!model && call !== "load") throw new UsageError("there is no model yet", { hint: "load one first" });
    self.postMessage({ id, value: await CALLS[call](args, { signal: controller.signal, emit }) });
  } catch (error) {
    self.postMessage({ id, error: errorToPlain(error) });
  } finally {
    running.delete(id);
  }
};
