# Every target sets up what it needs. On a fresh machine: git, make, python3 (3.11).
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.complete
COMPILE := $(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate
# docs/decisions/0009-what-a-process-imports.md; universal, so that the lines of other machines stay.
WITHOUT_CUDA := --universal --overrides requirements/tensorflow.in requirements/tensorflow.in
ENGINE ?= docker
VARIANT ?= cpu
BASE_IMAGE ?= python:3.11-slim-bookworm
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

PIP_QUIET := --quiet --disable-pip-version-check
# Into an environment ($(1)/python), what a file pins ($(2)): uv takes seconds where pip takes minutes, and pip knows of
# mirrors that only its own configuration names.
install = $(BIN)/uv pip install --quiet --compile-bytecode --python $(1)/python --require-hashes -r $(2) \
	|| $(1)/python -m pip install $(PIP_QUIET) --require-hashes -r $(2)

.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv, with .venv/bin/thaw

# Made anew: TensorFlow's wheels bring the same files, so that one can't be put over another.
$(STAMP): pyproject.toml requirements/dev.txt requirements/uv.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "Python 3.11 is needed: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install $(PIP_QUIET) --require-hashes -r requirements/uv.txt
	$(call install,$(BIN),requirements/dev.txt)
	$(BIN)/python -m pip install $(PIP_QUIET) --no-deps --no-build-isolation -e .
	$(BIN)/python -m compileall -q job
	@touch $@

demo: $(STAMP) ## run the main job on 2,624 real photographs
	$(BIN)/thaw demo

test: $(STAMP) ## run the tests
	$(BIN)/python -m pytest

test-all: $(STAMP) ## run the tests, and those that take minutes: every family, every store, every kill
	$(BIN)/python -m pytest
	$(BIN)/python -m pytest -m slow

test-kills: $(STAMP) ## runs on Ray that are killed, stopped and superseded (KILLS="two_attempts or …": some of them)
	$(BIN)/python -m pytest -m slow --numprocesses=0 \
		tests/integration/test_kills.py tests/integration/test_kills_on_ray.py -k "$(KILLS)"

test-arrival: $(STAMP) ## data that arrives, from the bucket to the model in use (ARRIVAL="not gcs": some of them)
	$(BIN)/python -m pytest -m slow --numprocesses=0 tests/integration/test_arrival.py \
		tests/integration/test_retrain.py tests/integration/test_storm.py -k "$(ARRIVAL)"

test-storm: $(STAMP) ## a storm of events, and what becomes of each (STORM="s3": some of them)
	$(BIN)/python -m pytest -m slow --numprocesses=0 tests/integration/test_storm.py -k "$(STORM)"

test-terminal: $(STAMP) ## what a run shows in terminals of several widths (tmux)
	$(BIN)/python -m pytest -m slow --numprocesses=0 tests/integration/test_terminal.py

test-image: $(STAMP) ## build the container image and run it (root, buildah, debootstrap)
	$(BIN)/python -m pytest -m image --numprocesses=0

lint: $(STAMP) ## ruff, mypy and hadolint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile

fix: $(STAMP) ## correct what ruff and terraform can correct: imports, formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	@if command -v terraform > /dev/null; then terraform fmt -recursive terraform; fi

CHECKOV := .venv-checkov/bin
# In a place of its own: checkov brings another module of the name hcl2.
.venv-checkov/.complete: requirements/checkov.txt | $(STAMP)
	$(PYTHON) -m venv .venv-checkov
	$(call install,$(CHECKOV),requirements/checkov.txt)
	@touch $@

lint-terraform: .venv-checkov/.complete ## terraform fmt and checkov
	terraform fmt -check -recursive terraform
	$(CHECKOV)/checkov --directory terraform --framework terraform --compact --quiet --skip-download

bench: $(STAMP) ## measure what the documents quote
	$(BIN)/python benchmarks/imports.py
	$(BIN)/python benchmarks/decoding.py
	$(BIN)/python benchmarks/depthwise.py
	$(BIN)/python benchmarks/startup.py
	-$(BIN)/python benchmarks/plan.py
	$(BIN)/python benchmarks/extract.py
	$(BIN)/python benchmarks/cache.py
	$(BIN)/python benchmarks/peers.py
	$(BIN)/python benchmarks/chaos.py
	$(BIN)/python benchmarks/recovery.py
	$(BIN)/python benchmarks/arrival.py
	$(BIN)/python benchmarks/results.py

image: ## build the container image (ENGINE=docker|buildah, VARIANT=cpu|gpu, BASE_IMAGE=…)
	$(ENGINE) build --build-arg BASE_IMAGE=$(BASE_IMAGE) --build-arg VARIANT=$(VARIANT) --build-arg VERSION=$(VERSION) \
		--build-arg REVISION=$$(git rev-parse HEAD) --build-arg SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) \
		--tag thaw:$(VERSION) $(BUILD_FLAGS) .

lock: $(STAMP) ## pin the dependencies again, with hashes
	$(COMPILE) pyproject.toml -o requirements/run.txt
	$(COMPILE) $(WITHOUT_CUDA) --extra demo --extra dev -c requirements/run.txt pyproject.toml -o requirements/dev.txt
	$(COMPILE) $(WITHOUT_CUDA) --extra cluster -c requirements/run.txt pyproject.toml -o requirements/cpu.txt
	$(COMPILE) --extra cluster --extra gpu -c requirements/run.txt -c requirements/cpu.txt pyproject.toml -o requirements/gpu.txt
	printf '%s\n' uv | $(COMPILE) -c requirements/dev.txt - -o requirements/uv.txt
	printf '%s\n' cyclonedx-bom setuptools wheel | $(COMPILE) - -o requirements/build.txt
	printf '%s\n' checkov | $(COMPILE) - -o requirements/checkov.txt

clean: ## delete what the other targets made
	rm -rf .venv .venv-checkov .demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

.PHONY: help setup demo test test-all test-kills test-arrival test-storm test-terminal test-image lint lint-terraform fix bench image \
	lock clean
