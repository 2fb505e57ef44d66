SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
ARGS ?=

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# One thread for each test worker: two workers with all cores each are slower than one.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS)

.PHONY: help venv check format test test-slow demo docs clean

help:
	@echo "make venv        create $(VENV) and install the package with its development tools"
	@echo "make check       formatting, lint, types"
	@echo "make format      rewrite the files as 'make check' wants them"
	@echo "make test        the fast tests (CPU, offline); ARGS='-k matching' is passed on"
	@echo "make test-slow   the rest"
	@echo "make demo        run the bundled example; ARGS=--all for all of it"
	@echo "make docs        build the documentation into site/ (open site/index.html)"
	@echo "make clean       remove caches and build outputs"

venv: $(INSTALLED)

# The stamp is written last, so an install that broke off is done again.
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

check: venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy src

format: venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: venv
	$(PYTEST) -m "not slow" $(ARGS)

test-slow: venv
	$(PYTEST) -m slow $(ARGS)

demo: venv
	$(BIN)/circuitkd demo $(ARGS)

docs: venv
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "documentation: site/index.html"

clean:
	rm -rf build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis circuitkd-runs
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
