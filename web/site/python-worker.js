// python-worker.js: the worker of the Python host and of the Python view: each request is a coroutine of
// bridge.py, which `stop` cancels. Pyodide starts with the worker, before anything is asked.
import { PageWorker } from "../page_worker.js";
import { answer, boot } from "./python-boot.js";

globalThis.Worker = PageWorker; // what ruvq starts here

// Python is given the site's ruvq.js: publishing the wheel's own would take longer. The engine isn't started ahead:
// while Pyodide compiles, every core is busy, and the model would come later rather than sooner.
const booted = boot("bridge.py", { ruvq_js: import("../ruvq.js") });
let started = false;
booted.then(() => { started = true; }, () => {}); // each request says what went wrong

async function serve(call, args, { id, emit }) {
  if (!started) emit({ phase: "python", loaded: 0, total: null });
  const pyodide = await booted;
  const json = await pyodide.globals.get("serve")(id, call, (event) => emit(JSON.parse(event)), JSON.stringify(args));
  return JSON.parse(json);
}

answer({
  async interruptible(shared) {
    (await booted).setInterruptBuffer(shared);
    return {};
  },
  load: (urls, sha256, context) => serve("load", [urls, sha256], context),
  generate: (prompt, options, context) => serve("generate", [prompt, options], context),
  chat: (messages, options, context) => serve("chat", [messages, options], context),
  cannotChat: (context) => serve("cannotChat", [], context),
  cell: (code, names, context) => serve("cell", [code, names], context),
}, (id) => booted.then((pyodide) => pyodide.globals.get("stop")(id), () => {}));
