# `make` lists what there is. Everything runs from a private .venv with pinned dependencies.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# The first Python >= 3.11 found; override with `make PYTHON=...`.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime-installed
DEV := $(VENV)/.dev-installed
BENCH := $(VENV)/.bench-installed

.PHONY: help install dev demo serve test test-slow check format bench load soak faults clean vectors

help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Tallyman needs Python 3.11 or newer on the PATH"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(RUNTIME): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	$(BIN)/python -m ingest.warm
	@touch $@

$(DEV): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m ingest.warm
	@touch $(RUNTIME) $@

$(BENCH): $(DEV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@touch $@

install: $(RUNTIME) ## Install the service into .venv
dev: $(DEV) ## Install the service and what tests need into .venv

demo: $(RUNTIME) ## A month of usage becomes a bill, in about a minute
	$(BIN)/tallyman demo

serve: $(RUNTIME) ## Run the service on the embedded engines, in ./tallyman-data
	$(BIN)/tallyman serve

test: $(DEV) ## Run the tests, on the real engines, in some minutes
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow"

test-slow: $(DEV) ## Run those that take longer: the same promises over more examples, kills, load
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m slow

bench: $(BENCH) ## Side-by-side benchmarks: make bench [ROWS="ingest dedupe/redis"] [QUICK=1]
	$(BIN)/python -m bench run $(ROWS) $(if $(QUICK),--quick)

load: $(BENCH) ## The traffic of a business against a service of its own: make load [ARGS="-u 120 -t 5m --report DIR"]
	$(BIN)/python -m bench.traffic $(ARGS)

MINUTES ?= 20
soak: $(BENCH) ## The same for long, with kills: make soak [MINUTES=20] [REPORT=soak-report]
	$(BIN)/python -m bench.soak --minutes $(MINUTES) --report "$(or $(REPORT),soak-report)"

vectors: $(DEV) ## Worked examples of prices: make vectors FILE=examples.jsonl
	@$(BIN)/python -m tests.vectors.run "$(FILE)"

faults: $(DEV) ## Break everything on purpose: make faults [SEEDS=10000] [MINUTES=10] [OUT=dir]
	$(BIN)/python -m tests.faults --seeds $(or $(SEEDS),2000) --minutes $(or $(MINUTES),5) \
		--out $(or $(OUT),fault-report) --planted

check: $(DEV) ## Lint, types and the dependency rule
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV) ## Format the code
	$(BIN)/ruff check --fix --quiet . || true
	$(BIN)/ruff format .

clean: ## Remove what was built here (never data)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache *.egg-info
