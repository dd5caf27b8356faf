# Two commands do all the set-up: `make demo` shows the product at work, `make test` proves it.
.DEFAULT_GOAL := help
.PHONY: help demo test lint format schemas lock audit bench faults soak mutants clean
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_SECONDS ?=
# Three for two cores: half of the time of a test is waiting.
WORKERS ?= $(shell echo $$(( ($$(getconf _NPROCESSORS_ONLN) * 3 + 1) / 2 )))

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 12

$(VENV)/.installed: tests/requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed; say which with: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r tests/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(VENV)/.installed  ## two simulated houses, live, on this machine (DEMO_SECONDS=20 ends by itself)
	@$(BIN)/nrgkick-pusher --version >/dev/null
	@$(BIN)/python -m tests.demo $(if $(DEMO_SECONDS),--seconds $(DEMO_SECONDS))

test: $(VENV)/.installed  ## all tests, on every real part that this machine has
	@$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.installed  ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(VENV)/.installed  ## put the code into shape
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

schemas: $(VENV)/.installed  ## write the JSON Schemas and the OpenAPI document anew
	@$(BIN)/python -m schemas.contract

lock:  ## pin all dependencies anew, with hashes (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock" function/requirements.in -o function/requirements.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock" pusher/requirements.in pusher/requirements-build.in -o pusher/requirements.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock" function/requirements.in pusher/requirements.in pusher/requirements-serial.in tests/requirements.in -o tests/requirements.txt

audit:  ## known weaknesses of the pinned packages, asked of their index (needs uv and the network)
	@uvx --quiet pip-audit --strict --disable-pip --require-hashes --progress-spinner off -r tests/requirements.txt || \
	  { echo 'make audit: a weakness is named above, or the index did not answer: then nothing is known of any package' >&2; exit 1; }

bench: $(VENV)/.installed  ## the design's figures on this machine, under ten minutes (ONLY=values: that family alone)
	@$(BIN)/python -m tests.benchmarks $(if $(ONLY),--only $(ONLY),--page README.md)

faults: $(VENV)/.installed  ## every fault on both stores, longer than the tests try it (SEEDS=3: twenty minutes)
	@$(BIN)/python -m tests.faults --seeds $(or $(SEEDS),3)

soak: $(VENV)/.installed  ## the pusher watched for an hour
	@$(BIN)/python -m tests.benchmarks --soak --page README.md

mutants: $(VENV)/.installed  ## what the tests do not notice in the rules, tokens and outbox (ONLY=schemas/merge.py)
	@nice -n 15 $(BIN)/python -m tests.mutants $(if $(ONLY),--only $(ONLY))

clean:  ## remove what make made
	rm -rf $(VENV) build mutants dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
