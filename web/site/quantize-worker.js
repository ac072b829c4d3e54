// quantize-worker.js: quantizes whole models with the Python package, as `ruvq quantize` does on the desktop, and
// measures on the way what the view plots. The source's files are mounted, not copied; the result comes back as
// bytes.
import { answer, boot } from "./python-boot.js";
import { Analysis } from "./analysis.js";

const SOURCE = "/source";
const OUTPUT = "/tmp/result.gguf";

let flag = null;
let booted = null;

/** Puts the source where Python sees it. @returns {string} its path */
function mount({ FS }, name, files) {
  if (FS.analyzePath(SOURCE).exists) {
    FS.unmount(SOURCE);
    FS.rmdir(SOURCE);
  }
  FS.mkdir(SOURCE);
  const folder = files.length > 1 || !/\.(gguf|bin)$/i.test(files[0].name);
  // a mounted File keeps its own name; a model's folder gets the name that the file will record
  const place = folder ? `${SOURCE}/${name}` : SOURCE;
  const blobs = files.map(({ name: file, data }) => ({ name: folder ? `${name}/${file}` : file, data }));
  FS.mount(FS.filesystems.WORKERFS, { blobs }, SOURCE);
  return folder ? place : `${SOURCE}/${files[0].name}`;
}

async function quantize(name, files, options, { emit }) {
  if (!booted) emit({ phase: "python" });
  booted ??= boot("quantize.py");
  const pyodide = await booted;
  if (flag) pyodide.setInterruptBuffer(flag);
  const path = mount(pyodide, name, files);
  const analysis = new Analysis();
  const observe = (width, weights, decoded) => analysis.add(width, weights, decoded);
  const run = pyodide.globals.get("run");
  const json = run(path, OUTPUT, JSON.stringify(options), (text) => emit(JSON.parse(text)), observe);
  const outcome = JSON.parse(json);
  if (outcome.error) return outcome;
  const data = pyodide.FS.readFile(OUTPUT);
  pyodide.FS.unlink(OUTPUT);
  return { value: { report: outcome.value, data, ...analysis.result() }, transfer: [data.buffer] };
}

answer({
  interruptible(shared) {
    flag = shared;
    return {};
  },
  quantize,
});
