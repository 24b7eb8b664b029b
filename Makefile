# Two commands: `make run` shows the demo, `make test` runs every test. The rest is for developers.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-16s %s\n", $$1, $$2}'

$(VENV)/.made:
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml
	$(BIN)/pip install -q -e '.[dev]'
	@touch $@

check: $(VENV)/.dev  ## format, lint, types and the fast tests, in under a minute
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/tidy tests/unit

test: $(VENV)/.dev  ## every test
	$(BIN)/pytest -q tests

.PHONY: help check test
