# Two commands do all the set-up, each from nothing: `make quickstart` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev

.PHONY: quickstart test check lint types layers methods-table bench-train bench-evaluate bench-statistics clean

quickstart: $(STAMP)
	$(BIN)/maple quickstart

test: $(DEV_STAMP)
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest

check: lint types layers test

lint: $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEV_STAMP)
	$(BIN)/mypy

layers: $(DEV_STAMP)
	$(BIN)/lint-imports

# Every method on every quantizer, tried; writes the table of docs/methods.md.
methods-table: $(DEV_STAMP)
	$(BIN)/python scripts/methods_table.py

# Training beside TRL and a plain PEFT loop; BENCH=--quick for a smoke test.
bench-train: $(DEV_STAMP)
	$(BIN)/python benchmarks/train.py $(BENCH)

# Scoring beside lm-evaluation-harness; BENCH=--quick for a smoke test.
bench-evaluate: $(DEV_STAMP)
	$(BIN)/python benchmarks/evaluate.py $(BENCH)

# Calibration on simulated studies of known truth; BENCH=--quick for a smoke test.
bench-statistics: $(DEV_STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/statistics.py $(BENCH)

# torch first and bounded: the machine's pip configuration chooses its build (a CPU one where that
# is what it offers), and an unbounded torch would bring gigabytes of CUDA with it.
$(VENV)/.torch: constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	touch $@

$(STAMP): $(VENV)/.torch pyproject.toml
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(DEV_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
