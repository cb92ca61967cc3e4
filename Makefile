# `make demo` and `make test` are all a fresh machine with Python needs; every target but clean makes .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test test-slow bench check docs clean

$(VENV)/.package: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable .
	touch $@

$(VENV)/.installed: $(VENV)/.package
	$(INSTALL) --editable '.[dev]'
	touch $@

$(VENV)/.peers: $(VENV)/.installed
	$(INSTALL) --editable '.[peers]'
	touch $@

demo: $(VENV)/.package  ## two bundled networks, one planted fault, a report that shows which has it
	$(BIN)/seewhy demo

check: $(VENV)/.installed  ## style and types, without the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: check  ## everything that must hold before a change lands
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow" --numprocesses auto --maxprocesses 8 --dist worksteal

test-slow: $(VENV)/.peers  ## real architectures, real weights, the public packages
	$(BIN)/pytest -m slow

bench: $(VENV)/.peers  ## each headline number: peer, ours, ratio
	$(BIN)/python -m benchmarks

docs: $(VENV)/.peers  ## measure again, and rewrite the tables that the docs show
	$(BIN)/python -m benchmarks.scenes --write
	$(BIN)/python -m benchmarks.planted --write
	$(BIN)/python -m benchmarks.layers
	$(BIN)/python -m benchmarks.agreement --write
	$(BIN)/python -m benchmarks.precision --write
	$(BIN)/python -m benchmarks.wsol --write
	$(BIN)/python -m benchmarks.retrieving --write
	$(BIN)/python -m benchmarks.clips --write
	$(BIN)/python -m benchmarks.embedding_maps --write
	$(BIN)/python -m benchmarks.prices --write
	$(BIN)/python -m benchmarks.relevance_page --write
	$(BIN)/python -m benchmarks.class_summaries --write
	$(BIN)/python -m benchmarks.summary_counts --write
	-$(BIN)/python -m benchmarks --write

clean:
	rm -rf $(VENV)
