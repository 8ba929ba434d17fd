.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin

help:  ## show this help
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

.venv/.demo: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "torch==2.13.*"
	$(BIN)/python -m pip install --quiet --editable ".[data,torch,demo]"
	touch $@

.venv/.dev: .venv/.demo
	$(BIN)/python -m pip install --quiet --editable ".[data,torch,demo,dev]"
	touch $@

install: .venv/.dev  ## create .venv with everything that development needs

demo: .venv/.demo  ## the incident from first lock to report, in a minute and a half
	$(BIN)/truerun demo --dir demo

test: .venv/.dev  ## all tests but the slow ones
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-slow: .venv/.dev  ## crash cycles, fuzzing, many seeds
	$(BIN)/python -m pytest -n 2 -m slow $(SLOW)

check: .venv/.dev  ## lint, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

attacks: .venv/.dev  ## every attack story with its accept twin, as a table
	$(BIN)/python -m attacks

bench: .venv/.dev  ## figures as ratios: ours, the peer's, the physical limit
	@for script in benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

docs: .venv/.dev  ## build the documentation into site/
	$(BIN)/python -m pip install --quiet --editable ".[docs]"
	$(BIN)/mkdocs build --strict

clean:  ## remove what the commands above made
	rm -rf .venv site demo .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

.PHONY: help install demo test test-slow check attacks bench docs clean
