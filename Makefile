# Two commands on a fresh machine with Python 3.11+ and make: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint types unit test-random test-real smoke docs pages bench bench-fuzz coverage fit evidence peers wheel clean

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

test: lint types unit smoke

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

unit: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto

# Properties on inputs drawn anew: what fails becomes an example of its test.
test-random: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --hypothesis-profile=random

# The runner on a real model, such as `make test-real GGUF=gemma-3-270m-q4_k_m.gguf`.
test-real: $(VENV)/.dev
	WAFERLINE_REAL_GGUF=$(GGUF) $(BIN)/python -m pytest tests/kernels/real_model.py

# As deployed: the wheel without extras in an empty environment, and every command once.
smoke: $(VENV)/.dev
	rm -rf build/smoke
	$(BIN)/python -m build --wheel --outdir build/smoke . > /dev/null
	$(PYTHON) -m venv build/smoke/env
	build/smoke/env/bin/python -m pip install --quiet --disable-pip-version-check build/smoke/*.whl
	tests/smoke.sh $(CURDIR)/build/smoke/env/bin/waferline

# The site, in build/site: lessons are executed anew, a link that leads nowhere fails it, and what is built works offline.
docs: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	$(BIN)/python -m docs.build lessons api
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Pages that are made from published rows and benchmarks: minutes, not seconds.
pages: $(VENV)/.dev
	$(BIN)/python -m docs.build

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks

# Hostile inputs by the thousand, for hours; docs/reliability.md is made of what is counted.
bench-fuzz: $(VENV)/.dev
	$(BIN)/python -m benchmarks.fuzz

# Branches that the tests pass through, printed.
coverage: $(VENV)/.dev
	$(BIN)/python -m coverage run --branch --source=src/waferline -m pytest -q -p no:cacheprovider
	$(BIN)/python -m coverage report --skip-covered --sort=cover | tail -n 60

# Every constant of the catalogue fitted again from its rows: benchmarks/fit/README.md says where they are looked for.
fit: $(VENV)/.dev
	$(BIN)/python -m benchmarks.fit --write
	$(BIN)/python -m benchmarks.fit.left_out

# Other tools answer the same published rows, each in an environment of its own; what does not install is reported.
PEERS := mlsysim genz-llm llm-analysis aiconfigurator-core
.peers/%/.installed: benchmarks/peers/requirements/%.txt
	$(PYTHON) -m venv .peers/$*
	.peers/$*/bin/python -m pip install --quiet --disable-pip-version-check -r $< > .peers/$*/install.log 2>&1 && touch $@ || tail -n 1 .peers/$*/install.log

peers: $(VENV)/.dev $(PEERS:%=.peers/%/.installed)
	$(BIN)/python -m benchmarks.peers

wheel: $(VENV)/.dev
	$(BIN)/python -m build

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache
