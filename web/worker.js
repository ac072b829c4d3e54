// worker.js: one worker, one engine, at most one model. Everything slow happens here, in short steps, so that
// a message (stop, above all) is heard between any two tokens.
//
// Page → worker:   {id, call, args}          a request; `call` names one of the CALLS below
//                  {cancel: id}              stop the request with this id
//                  {reply, value | error}    the answer to a question
// Worker → page:   {id, event, ...}          progress and pieces of text, before the answer
//                  {id, value}               the answer
//                  {id, error}               errorToPlain() of what went wrong
//                  {ask, method, args}       a question: a call of the page's storage (storage.js)
//                  {make, port}              a helper for the engine's threads (page_worker.js)
import { Arrival, checkKeepOptions } from "./arrival.js";
import { answerOptions, chatPrompt } from "./chat.js";
import { Sha256 } from "./digest.js";
import { readLocal } from "./download.js";
import { AbortError, MemoryLimitError, UsageError, errorFromPlain, errorToPlain } from "./errors.js";
import { fetchFile } from "./kept_download.js";
import { AdapterLoader, LocalAdapter } from "./local_adapter.js";
import { LocalModel } from "./local_model.js";
import { ModelLoader } from "./model_loader.js";
import { openStore } from "./model_store.js";
import { PageWorker } from "./page_worker.js";
import { RemoteStorage } from "./storage.js";
import { loadEngine } from "./threads.js";

/** Requests that run now: id → AbortController. */
const running = new Map();
/** @type {import("./engine.js").Engine} */ let engine;
/** @type {Promise<import("./engine.js").Engine> | null} what `prepare` has begun */ let prepared = null;
/** @type {import("./local_model.js").LocalModel} */ let model;
/** What pages know of the model's adapters: number → adapter. */
const adapters = new Map();
let adapterNumber = 0;

const CALLS = {
  /** Begins with the engine before there is a model to load; `load` with the same arguments goes on with it.
   * args: {urls, threads, splitAll} */
  async prepare({ urls, threads, splitAll }) {
    prepared = loadEngine(urls, threads, { splitAll, makeWorker });
    await prepared;
  },

  /** Loads engine and model. args: {urls, threads, splitAll, memoryBudget, addresses | sources, storage, keep,
   * options}; emits {event: "progress"} and {event: "notice"} */
  async load({ urls, threads, splitAll, memoryBudget, ...from }, { signal, emit }) {
    if (model) throw new UsageError("this worker holds a model already");
    const onProgress = atMostEvery(PROGRESS_MS, (progress) => emit("progress", progress));
    onProgress({ phase: "engine", loaded: 0, total: null });
    const started = performance.now();
    engine = await (prepared ?? loadEngine(urls, threads, { signal, splitAll, makeWorker }));
    prepared = null;
    const context = { signal, onProgress, onNotice: ({ kind, message }) => emit("notice", { kind, message }) };
    let times;
    try {
      times = await loadModel(from, memoryBudget, context);
    } catch (error) {
      const most = Math.min(memoryBudget ?? 2 ** 32, 2 ** 32);
      if (!(error instanceof MemoryLimitError) || !engine.pool || engine.limitBytes >= most) throw error;
      engine.pool.close();
      const note = `the device gives threads ${engine.limitBytes / 2 ** 20} MB of memory, too little for this model`;
      engine = await loadEngine(urls, 1, { signal, note });
      times = await loadModel(from, memoryBudget, context);
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
    return { info, source: times.source, loadSeconds: seconds, engineBytes: engine.memoryBytes };
  },

  /** Downloads into the store, without a model. args: {urls, url, storage, keep}; answers with what arrived. */
  async download({ urls, url, storage, keep }, { signal, emit }) {
    const onProgress = atMostEvery(PROGRESS_MS, (progress) => emit("progress", progress));
    engine ??= await loadEngine(urls, 1, { signal });
    const problems = [];
    const onNotice = ({ kind, error }) => (kind === "repair" ? undefined : problems.push(error));
    const sink = { begin: () => {}, write: () => throwFirst(problems), restart: () => {} };
    const context = { store: await storeFor(storage), ...checkKeepOptions(keep), signal, onProgress, onNotice };
    const transfer = await fetchFile(url, sink, { ...context, newDigest: () => new Sha256(engine) });
    await transfer.commit(transfer.verified);
    throwFirst(problems);
    onProgress.flush();
    return { bytes: transfer.bytes, sha256: transfer.sha256 };
  },

  /** Computes the SHA-256 of a Blob. args: {urls, blob}; emits progress. */
  async digest({ urls, blob }, { signal, emit }) {
    engine ??= await loadEngine(urls, 1, { signal });
    const digest = new Sha256(engine);
    const onProgress = atMostEvery(PROGRESS_MS, (progress) => emit("progress", progress));
    try {
      const sink = { begin: () => {}, write: (piece) => digest.update(piece) };
      await readLocal(blob, sink, { signal, onProgress, phase: "verify" });
      onProgress.flush();
      return digest.hex();
    } finally {
      digest.free();
    }
  },

  /** Generates; emits {event: "piece", text} and {event: "prompt", done, total}; answers with the stats. */
  async generate({ prompt, options }, { signal, emit }) {
    const steps = model.generate(prompt, options);
    await inSteps(steps, signal, (step) => {
      if (step.kind === "prompt") emit("prompt", { done: step.done, total: step.total });
      else {
        const { tokens, tokensPerSecond } = model.stats;
        emit("piece", { text: step.text, report: step.report, tokens, tokensPerSecond });
      }
    });
    return { ...model.stats, engineBytes: engine.memoryBytes };
  },

  /** Answers a conversation, as `generate` does. args: {prompt: messages, options}; see chat.js. */
  async chat({ prompt: messages, options }, context) {
    const prompt = await chatPrompt(model, messages, options);
    return CALLS.generate({ prompt: prompt.ids, options: answerOptions(model, prompt, options) }, context);
  },
  chatPrompt: ({ messages, options }) => chatPrompt(model, messages, options),

  /** The embedding of a text. args: {text, options} */
  async embed({ text, options }, { signal }) {
    const steps = model.embed(text, options);
    const vector = await inSteps(steps, signal, () => {});
    if (!vector) throw new AbortError("the embedding");
    return vector;
  },

  /** Reads an adapter, which counts from its first scale on. args: {addresses | sources, storage, keep, verify} */
  async loadAdapter({ verify, ...from }, { signal, emit }) {
    const onProgress = atMostEvery(PROGRESS_MS, (progress) => emit("progress", progress));
    const onNotice = ({ kind, message }) => emit("notice", { kind, message });
    const loader = new AdapterLoader(model, { verify });
    const { made } = await bring(loader, LocalAdapter, from, { signal, onProgress, onNotice });
    onProgress.flush();
    adapters.set((adapterNumber += 1), made);
    return { id: adapterNumber, info: made.info };
  },
  scaleAdapter({ id, scale }) {
    if (!adapters.has(id)) throw new UsageError("the adapter is unloaded", { hint: "load it again" });
    adapters.get(id).setScale(scale);
  },
  unloadAdapter({ id }) {
    for (const one of id === undefined ? [...adapters.keys()] : [id]) {
      adapters.get(one)?.dispose();
      adapters.delete(one);
    }
  },

  metadata: ({ key }) => (key === undefined ? model.file.metadataKeys() : model.file.metadata(key)),
  tokenize: ({ text, options }) => model.tokenize(text, options),
  detokenize: ({ ids, options }) => model.detokenize(ids, options),
  hashes: () => model.hashes(),
  memory: () => engine.memoryBytes,
};

const WITHOUT_MODEL = ["prepare", "load", "download", "digest"];
const PROGRESS_MS = 50;

/** Sets `model`; where it came from, and when its bytes began to come and were all there. */
async function loadModel({ options, ...from }, memoryBudget, context) {
  if (memoryBudget) engine.limit(memoryBudget);
  const { made, ...times } = await bring(new ModelLoader(engine, options), LocalModel, from, context);
  model = made;
  return times;
}

/** What `loader` makes of what is at `addresses`, or in `sources`, as a `Made`. */
async function bring(loader, Made, { addresses, sources, storage, keep }, context) {
  const wanted = checkKeepOptions(keep);
  const store = addresses && wanted.cache !== "no-store" ? await storeFor(storage) : null;
  if (store?.notice) context.onNotice({ kind: "memory", message: store.notice });
  const arrival = new Arrival(engine, loader, { ...context, ...wanted, store });
  const begun = performance.now();
  try {
    if (addresses) await arrival.fromURLs(addresses);
    else await arrival.fromSources(sources);
    const arrived = performance.now();
    loader.verify ||= arrival.unverified;
    const { onProgress, signal } = context;
    const onStep = ([loaded, total]) => onProgress({ phase: "verify", loaded, total });
    const made = await inSteps(loader.end(Made), signal, onStep);
    if (!made) throw new AbortError();
    const source = arrival.describe();
    await arrival.commit(loader.verify);
    return { made, begun, arrived, source };
  } catch (error) {
    loader.abandon();
    await arrival.abandon(error);
    throw error;
  }
}

function storeFor(storage) {
  const remote = (name) => new RemoteStorage(name, askPage);
  return openStore(storage ? remote(storage) : undefined, () => remote("memory"));
}

function makeWorker(url) {
  return new PageWorker(url, { direct: true });
}

// ---- questions to the page, whose storage it is ----

const questions = new Map(); // number → {resolve, reject}
let asked = 0;

function askPage(method, args) {
  const ask = (asked += 1);
  return new Promise((resolve, reject) => {
    questions.set(ask, { resolve, reject });
    self.postMessage({ ask, method, args });
  });
}

function hearAnswer({ reply, value, error }) {
  const { resolve, reject } = questions.get(reply);
  questions.delete(reply);
  if (error) reject(errorFromPlain(error));
  else resolve(value);
}

function throwFirst(problems) {
  if (problems.length > 0) throw problems[0];
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
    if (held && held.phase !== progress.phase) limited.flush();
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
  if (data.reply !== undefined) {
    hearAnswer(data);
    return;
  }
  const { id, call, args } = data;
  const controller = new AbortController();
  running.set(id, controller);
  const emit = (event, fields) => self.postMessage({ id, event, ...fields });
  try {
    if (!model && !WITHOUT_MODEL.includes(call)) {
      throw new UsageError("there is no model yet", { hint: "load one first" });
    }
    self.postMessage({ id, value: await CALLS[call](args, { signal: controller.signal, emit }) });
  } catch (error) {
    self.postMessage({ id, error: errorToPlain(error) });
  } finally {
    running.delete(id);
  }
};
