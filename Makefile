# Every target sets up what it needs: a fresh clone and `make demo` are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# A folder of its own for every demo: results are never overwritten.
DEMO ?= demo/$(shell date +%Y-%m-%d-%H%M%S)

.PHONY: setup demo test test-slow check format docs bench clean

setup: $(STAMP)

$(STAMP): pyproject.toml
	@if command -v uv >/dev/null 2>&1; then \
		uv venv --quiet --allow-existing --python $(PYTHON) $(VENV) && uv pip install --python $(BIN)/python -e '.[dev]'; \
	else \
		$(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --disable-pip-version-check -e '.[dev]'; \
	fi
	@touch $@

demo: $(STAMP)
	$(BIN)/kdet demo --out $(DEMO)

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/pyright
	$(BIN)/python docs/write_methods.py --check
	$(BIN)/python docs/write_schema.py --check

bench: $(STAMP)
	$(BIN)/python benchmarks/losses.py

docs: $(STAMP)
	$(BIN)/python docs/write_methods.py
	$(BIN)/python docs/write_schema.py

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) demo runs
