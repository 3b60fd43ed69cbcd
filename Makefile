# invivo: `make demo` shows it at work, `make test` runs all tests, `make help` lists the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# Start-up counts in milliseconds here: byte code is always written.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install dev demo test check format format-check lint types mypy pyright imports fast-tests fuzz fuzz-formats guest soak browser bench bench-plots clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-16s %s\n", $$1, $$2 }'

install: $(VENV)/.installed ## make the environment in .venv and install invivo there

dev: $(VENV)/.dev ## the same with all that the checks and tests need

demo: install ## trace some commands that the demo starts itself; needs root
	@$(BIN)/python demo/demo.py

test: dev ## run all tests, on this machine's kernel and on those of the guests; those of a kernel need root
	$(BIN)/python -m pytest

check: dev ## format, lint, types, import contracts and the fast tests
	@$(MAKE) --no-print-directory --output-sync=target -j2 pyright mypy fast-tests format-check lint imports

format: dev ## rewrite the code in the house's format
	$(BIN)/ruff format src tests demo bench docs
	$(BIN)/ruff check --fix src tests demo bench docs

format-check: dev
	$(BIN)/ruff format --check src tests demo bench docs

lint: dev ## look for mistakes
	$(BIN)/ruff check src tests demo bench docs

# Without the setting pyright asks the network for its newest version at each run.
types: mypy pyright ## check the types, twice

mypy: dev
	$(BIN)/mypy

pyright: dev
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright

imports: dev ## check that rooms import only what they may
	$(BIN)/lint-imports

fast-tests: dev
	$(BIN)/python -m pytest tests/unit tests/golden tests/architecture

fuzz: dev ## compare generated programs with the reference interpreter: make fuzz [N=1000] [SEED=1]
	cd tests && ../$(BIN)/python -m property.fuzz $(or $(N),1000) $(SEED)

fuzz-formats: dev ## read damaged files: make fuzz-formats [N=100000] [SEED=1]
	cd tests && ../$(BIN)/python -m property.damaged_files $(or $(N),100000) $(SEED)

guest: dev ## run tests/kernel on stock Debian kernels in QEMU: make guest [KERNEL=6.1] [TEST=expression]
	$(BIN)/python -m pytest -rs 'tests/guest/test_guest.py::test_kernel$(if $(KERNEL),[$(KERNEL)])' --guest-tests '$(TEST)'

soak: dev ## attach every kind of probe 1,000 times, kill 2,000 traces, and trace for an hour: make soak [TIMES=1000] [MINUTES=60]
	INVIVO_REPEAT=$(or $(TIMES),1000) INVIVO_STEADY_MINUTES=$(or $(MINUTES),60) $(BIN)/python -m pytest \
	    tests/kernel/test_probes_again.py tests/kernel/test_killed.py tests/kernel/test_steady.py --durations=20

browser: dev ## look at flame graphs in headless Chromium, and leave screenshots in build/
	$(BIN)/python -m pytest tests/flamegraph_chromium.py

bench: dev ## measure side by side with bpftrace, as docs/performance.md says; needs root and a quiet machine
	$(BIN)/python -m bench run

bench-plots: dev ## measure how costs grow, and draw docs/images/growth.png; needs root and a quiet machine
	$(BIN)/pip install -q --disable-pip-version-check -e '.[bench]'
	$(BIN)/python -m bench growth
	$(BIN)/python -m bench plots

clean: ## remove the environment and all caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build dist
	find src tests demo -name __pycache__ -type d -prune -exec rm -rf {} +

# The scripts that a pip older than 25 writes import `re` before anything else: 6 ms of every run.
$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "invivo needs Python 3.11 or later")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) --upgrade 'pip>=25'
	@$(PIP) --editable .
	@$(BIN)/python -m compileall -q src
	@touch $@

$(VENV)/.dev: $(VENV)/.installed
	@$(PIP) --editable '.[dev]'
	@touch $@
