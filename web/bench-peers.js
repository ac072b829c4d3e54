// bench-peers.js: other engines on the benchmark's page, each through its own documented interface and with
// settings that suit it: wllama on whole models, onnxruntime-web on whole models and on single products. Driven by
// build/bench/.

/**
 * One model in wllama: opened from memory, warmed up, one prompt, greedy decoding after it. Its own timings.
 * It takes text, not token ids: `letter` is one token, and so is each of several. WebGPU is off (headless
 * machines have none), one sequence, no reuse of an earlier prompt.
 */
export async function wllama({ base, url, threads, promptTokens, decodeTokens, letter }) {
  const { Wllama, LoggerWithoutDebug } = await import(new URL(`${base}/index.js`, import.meta.url));
  const config = { suppressNativeLog: true, logger: LoggerWithoutDebug };
  const engine = new Wllama({ default: String(new URL(`${base}/wasm/wllama.wasm`, import.meta.url)) }, config);
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: status ${response.status}`);
  const blob = await response.blob();
  const complete = (prompt, tokens) =>
    engine.createCompletion({
      prompt, max_tokens: tokens, temperature: 0, top_k: 1, ignore_eos: true, cache_prompt: false,
    });
  const start = performance.now();
  try {
    // threads and context are given; the rest is the library's defaults
    const context = promptTokens + decodeTokens + 64;
    await engine.loadModel([blob], { n_threads: threads, n_ctx: context, n_gpu_layers: 0, n_parallel: 1 });
    const opened = performance.now();
    await complete(letter.repeat(8), 4);
    // one token more than is timed: the first comes with the prompt
    const { timings } = await complete(letter.repeat(promptTokens), decodeTokens + 1);
    if (timings.prompt_n !== promptTokens || timings.predicted_n !== decodeTokens + 1) {
      throw new Error(`wllama computed ${timings.prompt_n} and ${timings.predicted_n} tokens instead of ` +
        `${promptTokens} and ${decodeTokens + 1}`);
    }
    return {
      open_s: (opened - start) / 1000,
      prompt_tokens_per_s: timings.prompt_n / timings.prompt_ms * 1000,
      decode_tokens_per_s: (timings.predicted_n - 1) / timings.predicted_ms * 1000,
      threads: engine.getNumThreads(),
    };
  } finally {
    await engine.exit();
  }
}

/** What wllama says of itself. */
export async function wllamaVersion({ base }) {
  const { Wllama } = await import(new URL(`${base}/index.js`, import.meta.url));
  return { llama_cpp: Wllama.getLibllamaVersion(), isolated: globalThis.crossOriginIsolated };
}

/** onnxruntime-web, on the CPU. */
async function onnxruntime(base, threads) {
  const ort = await import(new URL(`${base}/ort.wasm.min.mjs`, import.meta.url));
  ort.env.wasm.wasmPaths = String(new URL(`${base}/`, import.meta.url));
  ort.env.wasm.numThreads = threads;
  return ort;
}

/**
 * One model of `ruvq export-onnx --cache` in onnxruntime-web: opened from memory, warmed up, one prompt, greedy
 * decoding after it. Its interface gives every run's keys and values out and takes them in again.
 */
export async function onnxModel({ base, url, threads, promptTokens, decodeTokens, kvHeads, headWidth }) {
  const ort = await onnxruntime(base, threads);
  const bytes = new Uint8Array(await (await fetch(url)).arrayBuffer());
  const start = performance.now();
  const session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
  const opened = performance.now();
  const empty = () => new ort.Tensor("float32", new Float32Array(0), [1, kvHeads, 0, headWidth]);
  const names = session.inputNames.filter((name) => name.startsWith("past_key_values."));
  const begin = () => Object.fromEntries(names.map((name) => [name, empty()]));
  const run = async (cache, tokens) => {
    const ids = new ort.Tensor("int64", BigInt64Array.from(tokens, BigInt), [1, tokens.length]);
    const out = await session.run({ input_ids: ids, ...cache });
    for (const name of names) cache[name] = out[name.replace("past_key_values", "present")];
    const last = out.logits.data.subarray(-out.logits.dims[2]);
    return last.indexOf(last.reduce((a, b) => Math.max(a, b)));
  };
  const generate = async (prompt, count) => {
    const cache = begin();
    const begun = performance.now();
    let token = await run(cache, Array(prompt).fill(1));
    const between = performance.now();
    for (let i = 0; i < count; i += 1) token = await run(cache, [token]);
    return [(between - begun) / 1000, (performance.now() - between) / 1000];
  };
  await generate(8, 4);
  const [promptSeconds, decodeSeconds] = await generate(promptTokens, decodeTokens);
  await session.release();
  return {
    open_s: (opened - start) / 1000,
    prompt_tokens_per_s: promptTokens / promptSeconds,
    decode_tokens_per_s: decodeTokens / decodeSeconds,
    threads: ort.env.wasm.numThreads,
  };
}

/**
 * Single products: graphs of onnxruntime-web and rq_matvec of the same shape, interleaved, one thread.
 * @returns {Promise<Record<string, number[]>>} name → seconds of one product, by round
 */
export async function products({ base, graphs, ours, width, rows, rounds }) {
  const ort = await onnxruntime(base, 1);
  const { benchEngine } = await import("./bench-engine.js");
  const { CONSTANTS } = await import("./abi.js");
  const vector = Float32Array.from({ length: width }, (_, i) => Math.sin(i + 1));
  const tasks = {};
  for (const { name, url } of graphs) {
    const session = await ort.InferenceSession.create(url, { executionProviders: ["wasm"] });
    const x = new ort.Tensor("float32", vector, [1, width]);
    tasks[name] = () => session.run({ x });
  }
  const engine = await benchEngine();
  const x = engine.alloc(4 * width);
  const y = engine.alloc(4 * rows);
  engine.write(x, new Uint8Array(vector.buffer));
  for (const { name, id, url } of ours) {
    const bytes = new Uint8Array(await (await fetch(url)).arrayBuffer());
    const data = engine.alloc(bytes.length);
    engine.write(data, bytes);
    const scratchBytes = engine.call("rq_matvec_scratch", id, width);
    const scratch = engine.alloc(scratchBytes);
    const end = scratch + scratchBytes;
    tasks[name] = () => engine.call("rq_matvec", id, data, rows, width, x, y, scratch, end, CONSTANTS.RQ_SIMD);
  }
  const times = Object.fromEntries(Object.keys(tasks).map((name) => [name, []]));
  for (let round = 0; round <= rounds; round += 1) {
    for (const [name, task] of Object.entries(tasks)) {
      const seconds = await secondsOf(task);
      if (round > 0) times[name].push(seconds); // the first round warms up
    }
  }
  return times;
}

/** Seconds of one call, from as many calls as fill 50 ms. */
async function secondsOf(work) {
  const start = performance.now();
  for (let calls = 1; ; calls += 1) {
    await work();
    const elapsed = performance.now() - start;
    if (elapsed >= 50) return elapsed / calls / 1000;
  }
}
