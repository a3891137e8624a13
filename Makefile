# Every target sets up what it needs: a fresh clone and `make demo` are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# A folder of its own for every demo: results are never overwritten.
DEMO ?= demo/$(shell date +%Y-%m-%d-%H%M%S)

# The versions that the tests ran on. `make setup LOCK=` takes what the index offers today.
LOCK ?= -c constraints.txt

.PHONY: setup demo test test-long test-all test-slow test-gpu test-foreign test-devices check audit wheel-test lock format docs site bench clean

# An environment in a folder, with what pip installs into it: by uv where there is one, else by venv and pip.
define environment
	@if command -v uv >/dev/null 2>&1; then \
		uv venv --quiet --allow-existing --python $(PYTHON) $(1) && uv pip install --python $(1)/bin/python $(2); \
	else \
		$(PYTHON) -m venv $(1) && $(1)/bin/python -m pip install --disable-pip-version-check $(2); \
	fi
	@touch $(1)/.installed
endef

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(call environment,$(VENV),$(LOCK) -e '.[dev]')

demo: $(STAMP)
	$(BIN)/kdet demo --out $(DEMO)

# Each process takes half of the tests as they stand, so that files share what they prepare, and helps out at the end.
test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not long and not slow"

# The same promises through commands, processes and whole studies, in every variant.
test-long: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "long and not slow"

# What CI runs: each test once, the quick ones first.
test-all:
	$(MAKE) test
	$(MAKE) test-long

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

# What differs on a GPU; CUDA_VISIBLE_DEVICES chooses another.
test-gpu: export CUDA_VISIBLE_DEVICES ?= 0
test-gpu: $(STAMP)
	$(BIN)/python -m pytest -m gpu

# Beside other libraries, some of them copyleft, in an environment of their own that kdet's never sees.
FOREIGN := .venv-foreign
IN_FOREIGN := -e '.[hf,onnx,test]' -r tests/foreign/requirements.txt

test-foreign: $(FOREIGN)/.installed
	YOLO_CONFIG_DIR=$(FOREIGN) YOLO_OFFLINE=true $(FOREIGN)/bin/python -m pytest -W default tests/foreign

$(FOREIGN)/.installed: pyproject.toml constraints.txt tests/foreign/requirements.txt
	$(call environment,$(FOREIGN),$(LOCK) $(IN_FOREIGN))

# Exported files of every target. The toolkits of phones want other versions than those that are locked.
DEVICES := .venv-devices
IN_DEVICES := -e '.[test,openvino,executorch,litert]'

test-devices: $(DEVICES)/.installed
	$(DEVICES)/bin/python -m pytest -W default tests/export/test_export_files.py

$(DEVICES)/.installed: pyproject.toml
	$(call environment,$(DEVICES),$(IN_DEVICES))

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/pyright
	$(BIN)/python docs/write_methods.py --check
	$(BIN)/python docs/write_schema.py --check
	$(BIN)/python docs/write_lists.py --check

# Known vulnerabilities of what is locked; passes, and says so, where nobody can be asked.
audit: $(STAMP)
	$(BIN)/python .ci/audit.py

# The tests against the built wheel, from the files of the built sdist.
wheel-test: $(STAMP)
	.ci/wheel-test

# Needs uv. Keeps what is pinned as far as pyproject.toml allows; `make lock UPGRADE=--upgrade` takes the newest.
# One file for every platform and Python, without the toolkits of phones, which want other versions. No hashes: pip would
# want one for the package itself, too.
lock:
	uv pip compile pyproject.toml --extra dev --extra bench --universal --python-version 3.11 --no-header --no-annotate \
		--no-emit-index-url --no-emit-package pip $(UPGRADE) --output-file constraints.txt

bench: $(STAMP)
	$(BIN)/python benchmarks/losses.py
	$(BIN)/python benchmarks/data.py
	$(BIN)/python benchmarks/step.py

docs: $(STAMP)
	$(BIN)/python docs/write_methods.py
	$(BIN)/python docs/write_schema.py
	$(BIN)/python docs/write_lists.py

# The pages as a site, in site/; `.venv/bin/zensical serve` shows them while they are written.
site: $(STAMP)
	$(BIN)/zensical build --strict

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) $(FOREIGN) $(DEVICES) demo runs site .cache
