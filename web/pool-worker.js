// pool-worker.js: a thread that helps an engine. Runs the engine's module on the engine's shared memory, on a
// stack of its own, and stays inside rq_pool_work until the pool is closed. Stands alone: it imports nothing.
const inNode = typeof globalThis.postMessage !== "function";
const NODE_THREADS = "node:worker_threads"; // a name that bundlers for browsers must leave alone

function work(port, { module, memory, pool, stackTop }) {
  try {
    const { exports } = new WebAssembly.Instance(module, { env: { memory } });
    exports.__stack_pointer.value = stackTop;
    port.postMessage({ ready: true });
    exports.rq_pool_work(pool);
  } catch (error) {
    port.postMessage({ error: String(error?.message ?? error) });
  }
  if (inNode) port.close(); // a browser's is terminated by whoever started it
}

async function listenInNode() {
  const { parentPort } = await import(/* webpackIgnore: true */ /* @vite-ignore */ NODE_THREADS);
  parentPort.once("message", (data) => work(parentPort, data));
}

if (inNode) void listenInNode();
else {
  globalThis.onmessage = ({ data }) => {
    if (data.port) data.port.onmessage = (event) => work(globalThis, event.data); // page_worker.js
    else work(globalThis, data);
  };
}
