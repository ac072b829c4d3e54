# ruvq: `make` lists the targets. Everything that is built goes to out/, .venv/, node_modules/ and the
# two ignored places core.mk names; nothing else in the tree changes.
.DEFAULT_GOAL := help
.NOTPARALLEL: # set-up comes before what it installs
include build/core.mk

PYTHON := .venv/bin/python
JOBS ?= $(shell nproc)# how many compilers, and processes that test, at once
core = @$(MAKE) $(if $(V),,-s) --no-print-directory -f build/core.mk -j $(JOBS)# compiles what follows
# tests in one process for each core; what is slow begins (tests/conftest.py)
PYTEST := $(PYTHON) -m pytest -n $(JOBS) --no-loadscope-reorder
RUVQ_DATA ?= ../shared/data
export RUVQ_DATA

.PHONY: help setup native wasm side wheel pyodide-wheel npm abi model site demo test test-fast test-site fuzz soak shots lint format profile bench data clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | awk -F'\t' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: out/.setup-dev ## install what is missing: Debian packages (as root), .venv, node_modules
out/.setup-%: build/setup.sh pyproject.toml package.json package-lock.json
	bash build/setup.sh $*
	@mkdir -p out && touch $@

native: out/.setup-demo ## the C core as a native library
	$(core) $(NATIVE_LIBRARIES)

wasm: out/.setup-demo web/jinja.js ## the C core as WebAssembly modules (CC=emcc: with Emscripten)
	$(core) $(WASM_MODULES)

side: out/.setup-demo # the C core for Pyodide's own heap
	$(core) $(SIDE_MODULE)

web/jinja.js: out/.setup-demo # the package that renders chat templates, its licence in front, beside the scripts
	{ echo '/*'; cat node_modules/@huggingface/jinja/LICENSE; echo '*/'; \
	  cat node_modules/@huggingface/jinja/dist/index.js; } > $@.part && mv $@.part $@

out/wheel-js/.made: $(wildcard web/*.js) web/jinja.js Makefile # the wheels' scripts: without comments and white space
	npx --no-install esbuild --minify-whitespace web/*.js --outdir=$(@D) --log-level=error --legal-comments=inline
	npx --no-install esbuild --minify web/jinja.js --outdir=$(@D) --log-level=error --allow-overwrite
	{ echo '/*'; cat node_modules/@huggingface/jinja/LICENSE; echo '*/'; cat $(@D)/jinja.js; } > $@
	mv $@ $(@D)/jinja.js && touch $@

wheel: native wasm side out/wheel-js/.made ## the wheels for Pyodide and for this desktop, into out/wheels
	$(PYTHON) build/wheel.py

npm: setup wasm ## the JavaScript package with its types, out/npm/ruvq-VERSION.tgz
	$(PYTHON) build/npm_package.py

pyodide-wheel: wasm side out/wheel-js/.made ## only the platform wheel, for Pyodide's own heap
	$(PYTHON) build/wheel.py --kind pyodide

abi: setup ## regenerate what Python and JavaScript know of ruvq.h
	$(PYTHON) build/generate_abi.py

model: out/.setup-demo native ## train a story model like the bundled one (an hour or more on 2 cores; its card has the GPU command)
	$(PYTHON) build/model/make.py --data $(RUVQ_DATA) --out web/model

site: wheel ## the whole page in one folder, out/site, for any static server
	$(PYTHON) build/site_folder.py

demo: wheel ## quantize the bundled model, serve the page and print its address (HEADLESS=1: drive it and exit)
	$(PYTHON) build/demo.py

test: setup wheel ## every test, the browser's too, in JOBS (one a core) processes
	$(MAKE) wasm CC=emcc
	$(core) $(FUZZ_PROGRAMS) $(PROFILE_MODULES)
	$(PYTEST) tests $(PYTEST_FLAGS)

test-fast: setup wheel ## the tests that take seconds at most
	$(MAKE) wasm CC=emcc
	$(PYTEST) tests -m "not slow" $(PYTEST_FLAGS)

test-site: setup site ## the site with the network off: every view, both themes, without isolation headers too
	$(PYTHON) -m pytest tests/site $(PYTEST_FLAGS)

shots: setup site ## screenshots of every view, at phone and desktop width, into docs/img
	$(PYTHON) build/site_shots.py

fuzz: setup native web/jinja.js ## run the fuzzers, FUZZ_SECONDS (60) each, with address and undefined-behaviour sanitizers
	$(core) $(FUZZ_PROGRAMS)
	$(PYTHON) build/fuzz.py $(FUZZ_OPTIONS)

soak: setup native wasm ## load, write, abort, dispose in Chromium for SOAK_MINUTES (120): memory must not grow
	$(PYTHON) build/soak.py $(SOAK_OPTIONS)

lint: setup ## formatters, linters, type checker, generated files
	.venv/bin/ruff check . && .venv/bin/ruff format --check .
	.venv/bin/mypy
	$(PYTHON) build/generate_abi.py --check
	clang-format-19 --dry-run -Werror $(CORE_SOURCES) $(CORE_HEADERS)
	npx --no-install eslint .

format: setup ## rewrite the sources in the house format
	.venv/bin/ruff format . && .venv/bin/ruff check --fix .
	clang-format-19 -i $(CORE_SOURCES) $(CORE_HEADERS)

profile: wheel ## the engine with a clock inside: where a token's time goes; writes docs/performance.md
	$(core) $(PROFILE_MODULES)
	$(PYTHON) build/bench/token_profile.py --write docs/performance.md

bench: wheel ## measure kernels and models, natively and in Chromium; writes docs/bench/latest.json and its plots
	$(PYTHON) build/bench/run.py
	$(PYTHON) build/bench/plot.py

data: ## fetch the public test data into RUVQ_DATA, checked by SHA-256 (needs a network)
	python3 build/data.py --to $(RUVQ_DATA)

clean: ## remove everything that was built (not .venv and node_modules)
	rm -rf out py/ruvq/core/_native py/ruvq/core/_side web/*.wasm web/jinja.js
