// ahead.js: starts the chosen host's worker while the page's other scripts and the list of models are on their way. It
// imports nothing at first, so that it runs before they have come.
if (document.querySelector("input[name=host]:checked").value === "pyodide") {
  void import("./python-start.js").then(({ startPythonAhead }) => startPythonAhead());
} else {
  void import("../ruvq.js").then(({ Model }) => Model.prepare());
}
