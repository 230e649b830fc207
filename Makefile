# Everything happens in .venv, which the first command makes. `make help` lists the commands.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(INSTALLED): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	$(RUN)python -m pip install --quiet --upgrade 'pip>=25.1'
	$(RUN)python -m pip install --quiet --editable '.[local,conformance]' --group dev
	@touch $@

.PHONY: install
install: $(INSTALLED) ## Make .venv with everything in it

.PHONY: demo
demo: $(INSTALLED) ## Run the main job end to end; KEEP=1 leaves all up for a look in the browser
	$(RUN)prefect-executions demo $(if $(KEEP),--keep)

.PHONY: first-five-minutes
first-five-minutes: ## Do what a newcomer does, in an empty environment, and print how long each part takes
	$(PYTHON) tools/first_five_minutes.py

PARALLEL := --numprocesses 2 --dist loadgroup --no-loadscope-reorder

.PHONY: test
test: $(INSTALLED) ## Run the tests that a change usually breaks; ARGS='-k log' chooses some
	$(RUN)python -m pytest $(PARALLEL) -m "not scale and not upgrade and not long" --hypothesis-profile few $(ARGS)

.PHONY: test-ci
test-ci: $(INSTALLED) ## Run what CI runs: `make test`, and all that is end to end
	$(RUN)python -m pytest $(PARALLEL) -m "not scale and not upgrade and (not long or e2e)" --hypothesis-profile few $(ARGS)

.PHONY: test-all
test-all: $(INSTALLED) ## Run all tests, but for those of `make scale` and `make release`
	$(RUN)python -m pytest $(PARALLEL) -m "not scale and not upgrade" $(ARGS)

VERSIONS ?= lowest-direct
WHEEL := .wheel/$(VERSIONS)

.PHONY: test-wheel
test-wheel: $(INSTALLED) ## Run the tests against the built wheel, with the lowest versions it allows; VERSIONS=highest: the newest
	$(RUN)python -m pip install --quiet --group release
	rm -rf $(WHEEL)
	$(RUN)python tools/wheel.py $(WHEEL) --versions $(VERSIONS)
	$(WHEEL)/venv/bin/python -m pytest $(PARALLEL) -m "not scale and not upgrade" $(ARGS)

.PHONY: release
release: $(INSTALLED) ## Build what is uploaded into dist/, check it, and run it on every Python there is; ARGS='--python 3.12': on one
	$(RUN)python -m pip install --quiet --group release
	$(RUN)python tools/release.py $(ARGS)

SEED ?= 1
ROUNDS ?= 100

.PHONY: chaos
chaos: $(INSTALLED) ## Kill, freeze, pause and restart all there is; SEED=1 ROUNDS=100 choose the schedule
	PYTHONPATH=tests:tests/support $(RUN)python -m chaos --seed $(SEED) --rounds $(ROUNDS) $(ARGS)

EXECUTIONS ?= 200

.PHONY: scale
scale: $(INSTALLED) ## Many executions on two API servers, PostgreSQL and Redis, some of which die; SEED=1 EXECUTIONS=200
	SEED=$(SEED) EXECUTIONS=$(EXECUTIONS) $(RUN)python -m pytest -m scale -s $(ARGS)

.PHONY: lint
lint: $(INSTALLED) ## Check format, style, types and the layers of folders
	$(RUN)ruff format --check .
	$(RUN)ruff check .
	$(RUN)mypy
	$(RUN)lint-imports

.PHONY: screenshots
screenshots: $(INSTALLED) ## Take docs/images anew, in a real Chromium
	$(RUN)python -m pytest tests/e2e/test_screenshots.py --screenshots docs/images

.PHONY: client
client: $(INSTALLED) ## Write client/sync.py from client/aio.py
	$(RUN)python tools/sync_client.py

.PHONY: docs
docs: $(INSTALLED) ## Write docs/openapi.json and docs/http-api.md from the code
	PREFECT_API_URL=http://127.0.0.1:9/api $(RUN)python docs/generate.py

.PHONY: site
site: $(INSTALLED) ## Build the documents as a site, into site/, and check its links
	$(RUN)python -m pip install --quiet --group docs
	NO_MKDOCS_2_WARNING=1 $(RUN)mkdocs build --strict
	@echo 'To look at it: $(RUN)mkdocs serve'

.PHONY: format
format: $(INSTALLED) ## Format the code
	$(RUN)ruff check --fix-only --quiet .
	$(RUN)ruff format .

.PHONY: bench
bench: $(INSTALLED) ## Measure against baselines, print a table, write benchmarks/results.json; ARGS=scaling: that alone
	$(RUN)python -m pip install --quiet --group bench
	$(RUN)python -m benchmarks $(ARGS)

.PHONY: clean
clean: ## Remove what the demo left
	rm -rf .data
