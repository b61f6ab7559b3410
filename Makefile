PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: help demo venv test check format clean

help:  ## what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: venv  ## environment, then the whole road on two cores in minutes, to a file that may be served: recipes/pocket.yaml
	$(BIN)/ponder run recipes/pocket.yaml

venv: $(VENV)/.installed  ## the environment in .venv, pinned by constraints.txt

test: $(VENV)/.tested  ## the whole test suite
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

check: $(VENV)/.tested  ## formatting rules, types and generated documents
	$(BIN)/ruff format --check src tests docs examples benchmarks
	$(BIN)/ruff check src tests docs examples benchmarks
	$(BIN)/pyright

format: $(VENV)/.tested  ## every file as ruff writes it
	$(BIN)/ruff format src tests docs examples benchmarks

clean:  ## remove the environment and caches; runs stay
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Ponder needs Python 3.11 or newer; set PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt torch==2.13.0
	$(PIP) install -c constraints.txt -e '.[serve,gguf]'
	@touch $@

$(VENV)/.tested: $(VENV)/.installed
	$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@
