// What ruvq's pure wheel in Pyodide makes of every file of the corpus: answer.py, run there.
// usage: node attacks/pyodide.mjs FOLDER WHEEL PACKAGE   (PACKAGE: "pyodide" or "pyodide-0.29", in node_modules)
import { readFileSync } from "node:fs";
import * as template from "../web/template.js";

const [folder, wheel, name] = process.argv.slice(2);
const { loadPyodide } = await import(name);
const pyodide = await loadPyodide();
pyodide.mountNodeFS("/corpus", folder);
pyodide.unpackArchive(new Uint8Array(readFileSync(wheel)), "wheel");
pyodide.globals.set("source", readFileSync(new URL("./answer.py", import.meta.url), "utf8"));
pyodide.globals.set("template", template); // a page imports it from the wheel, by an address that Node can't have
console.log(pyodide.runPython(`
import types
from ruvq.browser import templates
templates._module = template
answer = types.ModuleType("answer")
exec(compile(source, "answer.py", "exec"), answer.__dict__)
answer.json.dumps({"results": answer.results(answer.Path("/corpus")), "memoryBytes": answer.most_memory()})
`));
