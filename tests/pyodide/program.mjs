// The same boot for a page and a worker; see program.html.
const booted = new Map(); // version → promise of a Pyodide with ruvq installed

async function boot(version) {
  const folder = new URL(`./pyodide/${version}/`, import.meta.url).href;
  const { loadPyodide } = await import(`${folder}pyodide.mjs`);
  const pyodide = await loadPyodide({
    indexURL: folder,
    packageBaseUrl: folder,
    lockFileURL: `${folder}pyodide-lock.json`,
  });
  await pyodide.loadPackage("micropip", { messageCallback: () => {} });
  const index = new URL("./pyodide/simple/{package_name}/index.html", import.meta.url).href;
  pyodide.globals.set("index", decodeURI(index));
  await pyodide.runPythonAsync("import micropip; micropip.set_index_urls(index)");
  await pyodide.runPythonAsync('await micropip.install("ruvq")');
  return pyodide;
}

export async function run(version, program) {
  if (!booted.has(version)) booted.set(version, boot(version));
  const pyodide = await booted.get(version);
  return String(await pyodide.runPythonAsync(program));
}

if (typeof WorkerGlobalScope !== "undefined") {
  self.onmessage = async ({ data: { version, program } }) => {
    try {
      self.postMessage({ value: await run(version, program) });
    } catch (error) {
      self.postMessage({ error: String(error?.stack ?? error) });
    }
  };
}
