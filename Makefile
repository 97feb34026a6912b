# Everything a newcomer needs. `make` alone explains itself.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test stories-slow chaos chaos-billing bench burst eval eval-signals lint clean packages

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

packages: ## what the sandbox needs from Debian; installs what is missing and says why
	@sh broker/sandbox/packages.sh

$(STAMP): pyproject.toml constraints.txt | packages
	@echo "python: environment in $(VENV)"
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(STAMP) ## the main job on a real Slurm with an emulated cloud: no account, no key; KEEP=1 leaves it up
	@$(PY) -m broker.sandbox.demo $(if $(KEEP),--keep)

lint: $(STAMP) ## format, style, types
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy

# Not reordered: the stories come early, and what is short fills the end.
test: lint ## every check of a submission
	@$(VENV)/bin/pytest --numprocesses=3 --dist=loadfile --no-loadscope-reorder

chaos: $(STAMP) ## the daemon dies N times at random (N=100); SEED=… plays the same again; says what leaked, doubled, was lost
	@PYTHONPATH=tests $(PY) -m chaos.chaos --crashes $(or $(N),100) $(if $(SEED),--seed $(SEED)) $(if $(JSON),--json $(JSON))

chaos-billing: $(STAMP) ## metering, closing, pushing while the process dies N times (N=1000; SEED=…): what was lost or doubled
	@PYTHONPATH=tests $(PY) tests/billing_crashes.py --crashes $(or $(N),1000) --seed $(or $(SEED),0)

stories-slow: $(STAMP) ## the stories that wait for real time-outs
	@$(VENV)/bin/pytest -m slow tests/e2e

bench: $(STAMP) ## what the hot paths cost, beside a baseline in the same run (25 minutes; ONLY="rows burst" does some)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check gpuhunt==0.1.34 || echo "gpuhunt, which the planner is held against, cannot be installed: its rows have another baseline"
	@PYTHONPATH=tests $(PY) tests/bench/bench.py $(if $(ONLY),--only $(ONLY))

burst: $(STAMP) ## our own work and memory for each of N leases asked for at once (N=1000), without hosts
	@PYTHONPATH=tests $(PY) tests/bench/thousand.py -n $(or $(N),1000)

eval: $(STAMP) ## docs/evaluation.md from the traces of ../shared/data: tables, charts, intervals (ONLY="regret modes" does some)
	@$(PY) tests/eval/evaluate.py $(if $(ONLY),--only $(ONLY))

eval-signals: $(STAMP) ## what a day-ahead choice saves with each forecast of carbon intensity (20 s; YEAR=2022, JSON=1)
	@PYTHONPATH=tests $(PY) tests/eval/signals.py $(if $(YEAR),--year $(YEAR)) $(if $(JSON),--json)

clean: ## everything `make` made, the sandbox and its caches with it
	@if [ -x $(VENV)/bin/broker ] && [ -d .sandbox ]; then $(VENV)/bin/broker sandbox down; fi
	rm -rf $(VENV) .sandbox .cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
