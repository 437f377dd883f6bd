# Everything a clean clone needs is in .venv, which every target makes by itself.

PYTHON ?= $(firstword $(foreach python,python3 python3.14 python3.13 python3.12 python3.11,$(if $(shell \
	$(python) -c 'import sys; print(sys.version_info >= (3, 11) or "")' 2>/dev/null),$(python))))
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
SERVERS ?= 3
WORKERS ?= 3
PAIRS ?= all
ARGS ?=
DATABASES ?=
export SERVERS
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv test matrix matrix-django check format demo bench mutations torture build clean

help: ## print this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(INSTALLED) ## make .venv and install everything into it (PYTHON=python3.13 chooses the interpreter)

$(INSTALLED): pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; name one with PYTHON=…" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1" # the first that knows --group
	$(BIN)/python -m pip install --quiet --editable ".[cli,django,embedded,prometheus]" --group dev
	@touch $@

# Without ARGS on all databases; with ARGS, which often choose tests, on SQLite unless DATABASES names others.
test: $(INSTALLED) ## run all tests, on each of DATABASES, WORKERS=3 processes (ARGS="-k lease -x" goes to pytest)
	@exec $(BIN)/python -m tests.databases $(or $(DATABASES),$(if $(ARGS),sqlite)) -- --numprocesses=$(WORKERS) --dist=loadfile $(ARGS)

matrix: $(INSTALLED) ## tests of the Django app on PAIRS=all of Python and Django that are found, on each of DATABASES
	@exec $(BIN)/python -m tests.databases.matrix --pairs=$(PAIRS) $(DATABASES) -- --numprocesses=$(WORKERS) \
		--dist=loadfile $(ARGS)

matrix-django: $(INSTALLED) ## Django's own test suite with this app installed, all that has to do with models (half an hour)
	@exec $(BIN)/python -m tests.databases.django_suite --all $(ARGS)

check: $(INSTALLED) ## lint, formatting, types, imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	PYTHONPATH=tests/typing $(BIN)/mypy --config-file tests/typing/mypy.ini # the interface as users write it
	$(BIN)/lint-imports

format: $(INSTALLED) ## repair what can be repaired: formatting, import order
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

demo: $(INSTALLED) ## a shop on SERVERS=3 app servers and a Redis of its own (or REDIS_URL=…)
	@exec $(BIN)/python -m example_project.demo $(ARGS)

bench: $(INSTALLED) ## measure, against peers, in one run
	@exec $(BIN)/python -m benchmarks $(ARGS)

mutations: $(INSTALLED) ## remove each rule of the core and of the value path, and see that a check notices
	@$(BIN)/python -m tests.proof.simulation.mutations $(ARGS)
	@exec $(BIN)/python -m tests.proof.values.mutations $(ARGS)

torture: $(INSTALLED) ## faults at random on real processes, for minutes
	@exec $(BIN)/python -m tests.proof.torture $(ARGS)

build: $(INSTALLED) ## wheel and sdist in dist/
	$(BIN)/python -m build --no-isolation $(ARGS)

clean: ## remove what the other targets made
	rm -rf $(VENV) .matrix build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
