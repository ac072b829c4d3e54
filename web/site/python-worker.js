// python-worker.js: the worker of the Python host and of the Python view: each request is a coroutine of
// bridge.py, which `stop` cancels.
import { PageWorker } from "../page_worker.js";
import { answer, boot } from "./python-boot.js";

globalThis.Worker = PageWorker; // what ruvq in Pyodide starts

let flag = null;
let booted = null;

/** @returns {Promise<any>} Pyodide, started once */
function start(emit) {
  booted ??= boot("bridge.py", (phase) => emit({ phase, loaded: 0, total: null })).then((pyodide) => {
    if (flag) pyodide.setInterruptBuffer(flag);
    return pyodide;
  });
  return booted;
}

async function serve(call, args, { id, emit }) {
  const pyodide = await start(emit);
  const json = await pyodide.globals.get("serve")(id, call, (event) => emit(JSON.parse(event)), JSON.stringify(args));
  return JSON.parse(json);
}

answer({
  interruptible(shared) {
    flag = shared;
    return {};
  },
  load: (urls, sha256, context) => serve("load", [urls, sha256], context),
  generate: (prompt, options, context) => serve("generate", [prompt, options], context),
  chat: (messages, options, context) => serve("chat", [messages, options], context),
  cannotChat: (context) => serve("cannotChat", [], context),
  cell: (code, names, context) => serve("cell", [code, names], context),
}, async (id) => (await booted)?.globals.get("stop")(id));
