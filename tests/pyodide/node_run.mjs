// Boots a Pyodide from a folder in Node, installs ruvq with micropip from a local index and runs Python from
// standard input. usage: node node_run.mjs PYODIDE_FOLDER INDEX_URL [MOUNTED_FOLDER] < program.py
// The program's value, a string, is printed as the last line.
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [folder, index, mounted] = process.argv.slice(2);
const { loadPyodide } = await import(pathToFileURL(resolve(folder, "pyodide.mjs")).href);
const pyodide = await loadPyodide({ indexURL: resolve(folder) + "/", packageBaseUrl: resolve(folder) + "/" });
if (mounted) pyodide.mountNodeFS("/data", mounted);
await pyodide.loadPackage("micropip", { messageCallback: () => {} });
pyodide.globals.set("index", index);
await pyodide.runPythonAsync("import micropip; micropip.set_index_urls(index)");
await pyodide.runPythonAsync('await micropip.install("ruvq")');
console.log(await pyodide.runPythonAsync(readFileSync(0, "utf8")));
