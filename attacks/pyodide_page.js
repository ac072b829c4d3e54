// pyodide_page.js: ruvq's pure wheel in Pyodide in a page, for what needs a browser: downloads. Imported with the
// wheel's address and the package in node_modules: pyodide_page.js?wheel=/out/wheels/...&package=pyodide
const { searchParams } = new URL(import.meta.url);
const { loadPyodide } = await import(`/node_modules/${searchParams.get("package")}/pyodide.mjs`);
const pyodide = await loadPyodide();
const wheel = await (await fetch(searchParams.get("wheel"))).arrayBuffer();
pyodide.unpackArchive(wheel, "wheel");
pyodide.globals.set("source", await (await fetch(new URL("./answer.py", import.meta.url))).text());
const answer = pyodide.runPython(`
import types
answer = types.ModuleType("answer")
exec(compile(source, "answer.py", "exec"), answer.__dict__)
answer.result_of_download
`);

/** The answer to one download. */
globalThis.answerDownload = async (entry) => JSON.parse(await answer(location.origin, JSON.stringify(entry)));
