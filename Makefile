# Each target installs what it needs, once: system packages (as root), a virtual environment, locked Python packages.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

PYTHON ?= python3
JOBS ?= 2
ARGS ?=
BIN := .venv/bin
PACKAGES := dissectors tracer replays
OBJECT := tracer/bridges/ebpf/fusewire.bpf.o
# a wheel named in a lock file is installed only when its hash is the one written there
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# the plugin keeps tests that share the kernel on one worker, and names every skip that nobody allowed
PYTEST := PYTHONPATH=scripts $(BIN)/python -m pytest -p pytest_house

.PHONY: help
help: ## This list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

.PHONY: demo
demo: .venv/.run-installed $(OBJECT) ## Record a real FUSE server at work, then show its timeline and its SYNCFS report
	@$(BIN)/python -m scripts.demo

.PHONY: test
test: system-test check ## All checks and all tests (ARGS="-k name" for some)
	@$(PYTEST) -n $(JOBS) --dist loadgroup $(ARGS)

.PHONY: check
check: .venv/.dev-installed ## Lint, format, types, import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy $(addprefix -p ,$(PACKAGES))
	@$(BIN)/lint-imports

.PHONY: bench
bench: system-test .venv/.dev-installed ## Measure speed and memory, with the machine it was measured on
	@$(BIN)/python -m benchmarks $(ARGS)

.PHONY: golden
golden: .venv/.dev-installed ## Write the golden files of the decoders anew; read the difference before you commit it
	@FUSEWIRE_UPDATE_GOLDEN=1 $(PYTEST) tests/dissectors tests/tracer/output tests/tracer/analysis tests/replays/test_report.py $(ARGS)

.PHONY: snapshots
snapshots: .venv/.dev-installed ## Write the pictures the UI tests compare with anew; look at them before you commit
	@$(PYTEST) tests/tracer/tui --snapshot-update $(ARGS)

.PHONY: venv
venv: .venv/.dev-installed ## The virtual environment in .venv, with all that developing needs

.PHONY: lock
lock: .venv/.dev-installed ## Choose the newest versions that pyproject.toml allows, and lock them
	@$(PIP_INSTALL) 'uv>=0.9'
	@scripts/lock

.PHONY: clean
clean: ## Remove the virtual environment and all caches
	@rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: system-demo
system-demo:
	@scripts/system-packages scripts/packages-demo.txt

.PHONY: system-test
system-test:
	@scripts/system-packages scripts/packages-demo.txt scripts/packages-test.txt

.venv/bin/python: | system-demo
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fusewire needs Python 3.11 or newer: make PYTHON=python3.11")'
	@$(PYTHON) -m venv .venv

# Installing builds the eBPF programs; this does when their sources change, or clang was not there then.
$(OBJECT): hatch_build.py $(wildcard tracer/bridges/ebpf/bpf/*) | .venv/.run-installed
	@$(BIN)/python hatch_build.py

.venv/.run-installed: requirements.lock pyproject.toml .venv/bin/python
	@echo "Installing Python packages from requirements.lock" >&2
	@$(PIP_INSTALL) --require-hashes -r requirements.lock
	@$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

# without clang there is no object, which is no reason to install everything again: hence the bar
.venv/.dev-installed: requirements-dev.lock .venv/.run-installed | $(OBJECT)
	@echo "Installing Python packages from requirements-dev.lock" >&2
	@$(PIP_INSTALL) --require-hashes -r requirements-dev.lock
	@touch $@
