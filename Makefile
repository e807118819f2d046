# Every target sets up what it needs. On a fresh machine: git, make, python3 (3.11).
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.complete

.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv, with .venv/bin/thaw

$(STAMP): pyproject.toml requirements/dev.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "Python 3.11 is needed: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(STAMP) ## run the main job on 2,624 real photographs
	$(BIN)/thaw demo

test: $(STAMP) ## run the tests
	$(BIN)/python -m pytest

test-all: $(STAMP) ## run the tests, and those that take minutes: runs that are killed in every stage
	$(BIN)/python -m pytest
	$(BIN)/python -m pytest -m slow

lint: $(STAMP) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP) ## measure what the documents quote
	$(BIN)/python benchmarks/decoding.py
	$(BIN)/python benchmarks/depthwise.py
	$(BIN)/python benchmarks/extract.py
	$(BIN)/python benchmarks/cache.py
	$(BIN)/python benchmarks/peers.py
	$(BIN)/python benchmarks/chaos.py
	$(BIN)/python benchmarks/recovery.py

lock: $(STAMP) ## pin the dependencies again, with hashes
	$(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate pyproject.toml -o requirements/run.txt
	$(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate --extra demo --extra dev -c requirements/run.txt pyproject.toml -o requirements/dev.txt

clean: ## delete what the other targets made
	rm -rf .venv .demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

.PHONY: help setup demo test test-all lint bench lock clean
