# Everything here works on a fresh checkout: each target sets up .venv first if it is not current.
MAKEFLAGS += --no-print-directory
BIN := .venv/bin
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint types bench-quick bench clean

help: ## print this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-20s %s\n", $$1, $$2 }'

setup: ## make .venv (PYTHON=... chooses the interpreter)
	@PYTHON='$(PYTHON)' tools/setup.sh

demo: setup ## run the demonstration
	@$(BIN)/python examples/demo.py

test: setup ## lint, format, types and all tests (PYTEST_ARGS='-k name' for some)
	@$(BIN)/python tools/check.py -- $(PYTEST_ARGS)

lint: setup ## lint and format only
	@$(BIN)/python tools/check.py lint format

types: setup ## types only
	@$(BIN)/python tools/check.py types

bench-quick: setup ## a short benchmark, into build/bench
	@$(BIN)/hotbed bench --quick --output build/bench

bench: setup ## the full benchmark: docs/benchmark-report.md and docs/benchmark-results.json
	@$(BIN)/hotbed bench --output docs

clean: ## remove everything make made
	@rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find src tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
