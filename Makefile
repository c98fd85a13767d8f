VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3

.PHONY: demo test lint format clean stack stack-demo stack-down

demo: $(VENV)/.installed  ## From nothing to a velocity cube and its pictures
	$(BIN)/ftrack demo

test: lint  ## Everything that must hold
	$(BIN)/python -m pytest $(PYTEST)

lint: $(VENV)/.installed-test  ## Style, types and the import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

stack: $(VENV)/.installed-stack  ## A cloud on this machine: S3, a STAC API, a Dask Gateway
	$(BIN)/python deploy/local_stack.py up

stack-demo: $(VENV)/.installed-stack  ## Search, submit, watch and read through all of it
	$(BIN)/python deploy/local_stack.py demo

stack-down:  ## Stop it, and remove what it has written
	$(BIN)/python deploy/local_stack.py down

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist demo *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("ftrack needs Python 3.11 or newer: make PYTHON=python3.11") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install -qq --no-compile --disable-pip-version-check -c constraints.txt -e .
	$(BIN)/ftrack compile
	touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install -qq --no-compile --disable-pip-version-check -c constraints.txt -e '.[test]'
	$(BIN)/ftrack compile
	touch $@ $(VENV)/.installed

$(VENV)/.installed-stack: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install -qq --no-compile --disable-pip-version-check -c constraints.txt -e '.[stack]'
	$(BIN)/ftrack compile
	touch $@ $(VENV)/.installed
