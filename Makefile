# Two commands on a fresh machine with Python 3.11+ and make: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint types unit docs bench evidence peers wheel clean

$(BIN)/waferline: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("waferline needs Python 3.11 or newer, found " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/.dev: $(BIN)/waferline
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

demo: $(BIN)/waferline
	$(BIN)/waferline predict llama-3-8b --on h100 --precision int4 --batch 1 --prompt 2048 --output 256

test: lint types unit

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

unit: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto

docs: $(VENV)/.dev
	$(BIN)/python -m docs.build

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks

wheel: $(VENV)/.dev
	$(BIN)/python -m build

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache
