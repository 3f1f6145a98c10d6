# Two commands on a fresh machine: make demo, make test. Each sets up .venv here by itself; nothing global is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test long slow lint docs clean
demo: $(VENV)/.ready
	$(BIN)/python tools/compare.py configs/benchmarks/digits.py

test: $(VENV)/.ready
	$(BIN)/python -m pytest -n 2

long: $(VENV)/.long
	$(BIN)/python -m pytest -n 2 -m long

slow: $(VENV)/.ready
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy --cache-dir=/dev/null

docs: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements/constraints.txt --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

$(VENV)/.ready: setup.py requirements/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "error: Python 3.11, 3.12 or 3.13 is needed; name one: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements/constraints.txt --editable '.[mm,app,onnx,report,tensorboard,dev]'
	touch $@

$(VENV)/.long: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements/constraints.txt --editable '.[ray,shards]'
	touch $@

clean:
	rm -rf $(VENV) work_dirs build *.egg-info .pytest_cache .ruff_cache
