// snapshot.mjs: the memory of a Pyodide that has booted, gzipped, for pages that want to begin there.
//
//     node build/pyodide/snapshot.mjs out/site/pyodide/314.0.7/snapshot.bin
//
// It fits this release of Pyodide alone. It holds no ruvq, only what of the standard library ruvq's pages import.
import { renameSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { loadPyodide } from "pyodide";

const STANDARD =
  "asyncio, contextlib, dataclasses, importlib.metadata, json, pathlib, pyodide.code, shutil, traceback, zipfile";

const [target] = process.argv.slice(2);
if (!target) throw new Error("usage: node build/pyodide/snapshot.mjs TARGET");
const pyodide = await loadPyodide({ _makeSnapshot: true });
pyodide.runPython(`import ${STANDARD}`);
writeFileSync(`${target}.part`, gzipSync(pyodide.makeMemorySnapshot(), { level: 9 }));
renameSync(`${target}.part`, target);
