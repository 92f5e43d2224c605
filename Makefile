# Everything is installed into .venv, generated under build/, and kept in the user's cache:
# docs/files-written.md.

PYTHON ?= python3
BOARD ?= sim
MINUTES ?= 60
REQUESTS ?= 20000
TARGET ?= hw_emu
# Recipes take these from the environment: names may have spaces and quotes.
export BOARD MODEL TARGET
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet

.PHONY: demo tutorial test test-fast test-serve test-ray fuzz qonnx check docs bench synth explore rtl bitstream proofs xclbin soak clean help bench-train bench-train-max test-models bench-models bench-serving fuzz-serving

# The index that has PyTorch without CUDA, 6 GB smaller; where it cannot be reached, pip goes on.
TORCH_INDEX := --retries 1 --timeout 15 --extra-index-url https://download.pytorch.org/whl/cpu

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /make \1\t/' | expand -t 18

demo: .venv/demo ## Compile a trained sparse network, run it on simulated hardware, compare
	$(BIN)/python examples/digits/demo.py

test: .venv/dev ## Run the tests: what CI runs
	$(BIN)/pytest -n auto --dist loadfile

test-fast: .venv/dev ## Run the tests that simulate, prove, train and build nothing: two minutes
	$(BIN)/pytest -n auto --dist loadfile -m "not rtl and not formal and not slow"

test-serve: .venv/dev .venv/serve ## Install and test serving
	$(BIN)/pytest tests/serve

test-ray: .venv-ray/ready ## Install and test Ray, in an environment of its own: Ray's warnings are not ours
	.venv-ray/bin/pytest -o filterwarnings= tests/serve/test_ray.py

tutorial: .venv/models ## Run every command of docs/tutorial.md, compare its figures: [UPDATE=1]
	$(BIN)/python examples/tutorial/check.py $(if $(UPDATE),--update)

docs: .venv/docs ## Build the documentation site, offline, into build/site; broken links are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

fuzz: .venv/dev ## Fuzz networks and parsers for an hour on one core: MINUTES=60 [SEED=n]
	$(BIN)/python -m trencadis_bench.fuzz.cli --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) -o build/bench/fuzz.json

fuzz-serving: .venv/dev ## Send hostile requests to a server: REQUESTS=20000 [SEED=n]
	$(BIN)/python -m trencadis_bench.serving.fuzz --requests $(REQUESTS) $(if $(SEED),--seed $(SEED)) -o build/bench/serving-fuzz.json

qonnx: .venv/dev ## Install the package qonnx in an environment of its own, for tests of its definitions
	test -d build/qonnx || $(PYTHON) -m venv build/qonnx
	build/qonnx/bin/pip --disable-pip-version-check --quiet install 'qonnx>=1.0,<2'

proofs: .venv/dev ## Prove the stream contract of every block, and that routing loses no product
	$(BIN)/pytest -m formal

check: .venv/dev ## Check format, lint, types and the layers of the architecture
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

bench: .venv/demo ## Measure the demo network, simulate the reference network on cards' cores
	$(BIN)/python -m trencadis_bench.measure.network --simulate

bench-train: .venv/train ## Measure sparse training into build/bench/train.json; goes on where it stopped
	$(BIN)/python -m trencadis_train.sparse.bench.command $(PARTS)

bench-train-max: .venv/train ## Train the largest sparse network that 20 GiB hold
	$(BIN)/python -m trencadis_train.sparse.bench.command scale-max
bench-cpu: .venv/demo ## Measure the device cpu beside onnxruntime: build/bench/cpu.json
	$(BIN)/python -m trencadis_bench.cpu.run
bench-serving: .venv/dev ## Measure serving under load beside the bare session: build/bench/serving.json
	$(BIN)/python -m trencadis_bench.serving.run
bench-models: .venv/models ## Try models that others made: build/bench/models.json, table in docs/models.md
	$(BIN)/python -m trencadis_bench.models.run --docs docs/models.md

test-models: .venv/models ## Compile and run every operator test of ONNX: overlay, host or refused, none wrong
	$(BIN)/python -m trencadis_bench.models.nodes

synth: .venv/demo ## Synthesise a kernel for UltraScale+ with Yosys: BOARD=u250|zu3eg
	$(BIN)/python -m trencadis_bench.synth.run "$$BOARD"

explore: .venv/demo ## Search the fastest chain of engines: BOARD=u250|zu3eg [MODEL=model.onnx]
	$(BIN)/python -m trencadis_bench.explore.search "$$BOARD" $(if $(MODEL),--model "$$MODEL")

rtl: .venv/demo ## Generate what needs no vendor's tool: BOARD=u250|zu3eg|ulx3s|ulx3s45
	$(BIN)/python -m trencadis_flows rtl "$$BOARD"

# The board's flow says whether tools of the registry build for it.
bitstream: .venv/demo ## Build a bitstream: BOARD=u250|zu3eg|ulx3s|ulx3s45 [MODEL=model.tcd]
	@extra=$$($(BIN)/python -m trencadis_flows extra "$$BOARD") || exit; \
		test -z "$$extra" || $(MAKE) --no-print-directory ".venv/$$extra"
	$(BIN)/python -m trencadis_flows bitstream "$$BOARD" $(if $(MODEL),--model "$$MODEL")

xclbin: .venv/demo ## Write an emulation xclbin for XRT: TARGET=hw_emu BOARD=u250
	@test "$$TARGET" = hw_emu || { echo "xclbin makes TARGET=hw_emu; for cards: make bitstream" >&2; exit 2; }
	$(BIN)/python -m trencadis_sim.hw_emu.xclbin --board "$$BOARD" -o "build/xclbin/$$(basename "$$BOARD" .toml)"

soak: .venv/demo ## Run a network 10,000 times through the real XRT: MODEL=model.tcd
	$(BIN)/python -m trencadis_sim.hw_emu.soak "$$MODEL"

clean: ## Remove everything generated, but not .venv
	rm -rf build

.venv/serve: .venv/pip pyproject.toml
	$(PIP) install --editable '.[serve]'
	touch $@

.venv-ray/ready: pyproject.toml
	$(PYTHON) -m venv .venv-ray
	.venv-ray/bin/pip install --quiet --editable '.[compiler,ray]' 'amaranth>=0.5.10,<0.6' 'pytest>=8'
	touch $@

.venv/boards: .venv/pip pyproject.toml
	$(PIP) install --editable '.[boards]'
	touch $@

.venv/pip:
	$(PYTHON) -m venv .venv
	$(PIP) install --upgrade 'pip>=25.1' # the first with dependency groups
	touch $@

# PyTorch first, so that the group finds it there. One version: tests of training pin figures.
.venv/torch: .venv/pip
	$(PIP) install $(TORCH_INDEX) torch==2.13.0
	touch $@

.venv/train: .venv/torch pyproject.toml
	$(PIP) install --editable '.[train]'
	touch $@

.venv/dev: .venv/torch
.venv/dev .venv/models: .venv/torch

.venv/demo .venv/dev .venv/docs .venv/models: .venv/%: .venv/pip pyproject.toml
	@echo "installing into .venv (some minutes, once)"
	$(PIP) install --editable . --group $*
	touch $@
