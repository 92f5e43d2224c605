# Everything is installed into .venv and generated under build/; nothing else is written.

PYTHON ?= python3
BOARD ?= sim
TARGET ?= hw_emu
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet

.PHONY: demo test check bench synth explore rtl bitstream proofs xclbin soak clean help

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

bench: .venv/demo ## Measure the demo network, simulate the reference network on cards' cores
	$(BIN)/python -m trencadis_sim.bench --simulate

synth: .venv/demo ## Synthesise a kernel for UltraScale+ with Yosys: BOARD=u250|zu3eg
	$(BIN)/python -m trencadis_sim.synth $(BOARD)

explore: .venv/demo ## Search the fastest chain of engines: BOARD=u250|zu3eg [MODEL=model.onnx]
	$(BIN)/python -m trencadis_sim.explore $(BOARD) $(if $(MODEL),--model "$(MODEL)")

rtl: .venv/demo ## Generate what needs no vendor's tool: BOARD=u250|zu3eg|ulx3s
	$(BIN)/python -m trencadis_hw.flows rtl $(BOARD)

# Tools for boards that need no vendor's; other names are files of your own.
bitstream: .venv/demo $(if $(filter u250 zu3eg sim,$(BOARD)),,.venv/boards) ## Build a bitstream: BOARD=u250|zu3eg|ulx3s [MODEL=model.tcd]
	$(BIN)/python -m trencadis_hw.flows bitstream $(BOARD) $(if $(MODEL),--model $(MODEL))

xclbin: .venv/demo ## Write an emulation xclbin for XRT: TARGET=hw_emu BOARD=u250
	@test $(TARGET) = hw_emu || { echo "xclbin makes TARGET=hw_emu; for cards: make bitstream" >&2; exit 2; }
	$(BIN)/python -m trencadis_sim.xclbin --board $(BOARD) -o build/xclbin/$(basename $(notdir $(BOARD)))

soak: .venv/demo ## Run a network 10,000 times through the real XRT: MODEL=model.tcd
	$(BIN)/python -m trencadis_sim.hw_emu.soak $(MODEL)

clean: ## Remove everything generated, but not .venv
	rm -rf build

.venv/boards: .venv/pip pyproject.toml
	$(PIP) install --editable '.[boards]'
	touch $@

.venv/pip:
	$(PYTHON) -m venv .venv
	$(PIP) install --upgrade 'pip>=25.1' # the first with dependency groups
	touch $@

.venv/demo .venv/dev: .venv/%: .venv/pip pyproject.toml
	@echo "installing into .venv (some minutes, once)"
	$(PIP) install --editable . --group $*
	touch $@
