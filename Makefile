# Everything is installed into .venv and generated under build/; nothing else is written.

PYTHON ?= python3
BOARD ?= sim
TARGET ?= hw_emu
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet

.PHONY: demo test check bench rtl bitstream proofs xclbin clean help

help: ## Show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /make \1\t/' | expand -t 18

demo: .venv/demo ## Compile a trained sparse network, run it on simulated hardware, compare
	$(BIN)/python examples/digits/demo.py

test: .venv/dev ## Run the tests
	$(BIN)/pytest

proofs: .venv/dev ## Prove the stream contract of every block, and that routing loses no product
	$(BIN)/pytest -m formal

check: .venv/dev ## Check format, lint, types and the layers of the architecture
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

bench: .venv/demo ## Measure cycles, multiplier use, simulation and compile time
	$(BIN)/python -m trencadis_sim.bench

rtl: .venv/demo ## Generate what needs no vendor's tool: BOARD=u250|zu3eg|ulx3s
	$(BIN)/python -m trencadis_hw.flows rtl $(BOARD)

bitstream: .venv/demo ## Build a bitstream: BOARD=u250|zu3eg|ulx3s [MODEL=model.tcd]
	$(BIN)/python -m trencadis_hw.flows bitstream $(BOARD) $(if $(MODEL),--model $(MODEL))

xclbin: .venv/demo ## Write an emulation xclbin for XRT: TARGET=hw_emu BOARD=u250
	@test $(TARGET) = hw_emu || { echo "xclbin makes TARGET=hw_emu; for cards: make bitstream" >&2; exit 2; }
	$(BIN)/python -m trencadis_sim.xclbin --board $(BOARD) -o build/xclbin/$(BOARD)

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
