// The same boot for a page and a worker; see program.html. `wheels` names the index: "simple" has both wheels,
// "pure" the pure one alone.
const booted = new Map(); // version and wheels → promise of a Pyodide with ruvq installed

async function boot(version, wheels) {
  const folder = new URL(`./pyodide/${version}/`, import.meta.url).href;
  const { loadPyodide } = await import(`${folder}pyodide.mjs`);
  const pyodide = await loadPyodide({
    indexURL: folder,
    packageBaseUrl: folder,
    lockFileURL: `${folder}pyodide-lock.json`,
  });
  await pyodide.loadPackage("micropip", { messageCallback: () => {} });
  const index = new URL(`./pyodide/${wheels}/{package_name}/index.html`, import.meta.url).href;
  pyodide.globals.set("index", decodeURI(index));
  await pyodide.runPythonAsync("import micropip; micropip.set_index_urls(index)");
  await pyodide.runPythonAsync('await micropip.install("ruvq")');
  return pyodide;
}

export async function run(version, program, wheels) {
  const key = `${version} ${wheels}`;
  if (!booted.has(key)) booted.set(key, boot(version, wheels));
  const pyodide = await booted.get(key);
  return String(await pyodide.runPythonAsync(program));
}

if (typeof WorkerGlobalScope !== "undefined") {
  self.onmessage = async ({ data: { version, program, wheels } }) => {
    try {
      self.postMessage({ value: await run(version, program, wheels) });
    } catch (error) {
      self.postMessage({ error: String(error?.stack ?? error) });
    }
  };
}
