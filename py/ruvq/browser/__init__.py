"""What runs only in Pyodide: models that are fetched by the page and run in a worker."""
