# Everything is installed into .venv and generated under build/; nothing else is written.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet

.PHONY: demo test check bench proofs clean help

help: ## Show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /make \1\t/' | expand -t 14

demo: .venv/demo ## Compile a trained sparse network, run it on simulated hardware, compare
	$(BIN)/python examples/digits/demo.py

test: .venv/dev ## Run the tests
	$(BIN)/pytest

check: .venv/dev ## Check format, lint, types and the layers of the architecture
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

bench: .venv/demo ## Measure cycles, multiplier use, simulation and compile time
	$(BIN)/python -m trencadis_sim.bench

clean: ## Remove everything generated, but not .venv
	rm -rf build

.venv/pip:
	$(PYTHON) -m venv .venv
	$(PIP) install --upgrade 'pip>=25.1' # the first with dependency groups
	touch $@

.venv/demo .venv/dev: .venv/%: .venv/pip pyproject.toml
	@echo "installing into .venv (some minutes, once)"
	$(PIP) install --editable . --group $*
	touch $@
