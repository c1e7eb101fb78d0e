# Everything a developer or CI calls. `make` alone lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
COMPOSE ?= docker compose
CONFIG ?= conf/custom.ini
# extra arguments for pytest: make unit ARGS="-k proxy -x"
ARGS ?=

# The containers run as the person who calls make, so that the kubeconfig they write is theirs. Root keeps the default.
ifneq ($(shell id -u),0)
COMPOSE_ENV := env UID=$(shell id -u) GID=$(shell id -g)
endif

# Property, crash and fuzz tests; SOAK is how many times the budget of CI each gets.
SOAKED = tests/unit/apiserver/storage/test_storage_crashes.py tests/unit/apiserver/rest/test_rest_fuzz.py \
  tests/unit/apimachinery/managed_fields tests/unit/apimachinery/patch tests/unit/apimachinery/test_selectors.py \
  tests/unit/apimachinery/test_options.py tests/unit/apimachinery/protobuf tests/clients/test_hostile_input.py

UV_COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url

.PHONY: help venv up down dev run test unit unitimage clients e2e soak lint audit fmt bench lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {printf "  %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml requirements-dev.lock requirements-build.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock -r requirements-build.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

venv: $(STAMP) ## create or update .venv from the lock files

up: ## build the image and start the stack in containers; returns when it is ready
	$(COMPOSE_ENV) $(COMPOSE) up --detach --build --wait

down: ## stop the stack in containers and remove it, its volumes too (data/ stays)
	$(COMPOSE_ENV) $(COMPOSE) down --volumes --remove-orphans

dev: $(STAMP) ## run the whole stack on this host without Docker; Ctrl-C ends it
	@$(BIN)/python hack/dev.py

run: $(STAMP) ## run the aggregator alone: make run CONFIG=conf/custom.ini
	@$(BIN)/aggregator serve --config $(CONFIG)

test: $(STAMP) ## unit, client and end-to-end tests (needs Docker and kubectl)
	$(BIN)/pytest tests/unit tests/soak tests/clients tests/outage tests/workers tests/e2e $(ARGS)

clients: $(STAMP) ## real clients against the real programs on this host: kubectl, the Python clients (needs kubectl)
	$(BIN)/pytest tests/clients tests/outage tests/workers $(ARGS)

soak: $(STAMP) ## property, crash, fuzz and load tests with a long budget: hours
	SOAK=$${SOAK:-50} $(BIN)/pytest -q $(SOAKED) $(ARGS)
	SOAK_SECONDS=$${SOAK_SECONDS:-1800} FUZZ_SECONDS=$${FUZZ_SECONDS:-600} $(BIN)/pytest -q tests/soak $(ARGS)

unit: $(STAMP) ## unit tests only
	$(BIN)/pytest tests/unit $(ARGS)

unitimage: ## unit tests in a container, with the Python of the image (needs Docker and kubectl)
	hack/unit-in-container.sh $(ARGS)

e2e: $(STAMP) ## end-to-end tests only: real containers, real kubectl, real Prometheus
	$(BIN)/pytest tests/e2e $(ARGS)

lint: $(STAMP) ## ruff, mypy, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Its tool has an environment of its own: it would double what the developers' one holds.
AUDIT = $(VENV)/audit

$(AUDIT)/bin/pip-audit: requirements-audit.lock | $(STAMP)
	-$(PYTHON) -m venv $(AUDIT) && timeout 120 $(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check \
	  --require-hashes -r requirements-audit.lock && touch $@

audit: $(AUDIT)/bin/pip-audit ## known vulnerabilities in requirements.lock; needs the network, says so when there is none
	$(BIN)/python hack/audit.py $(AUDIT)/bin/pip-audit

fmt: $(STAMP) ## format, and fix what can be fixed by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## measure everything; the proxy beside nginx, HAProxy and Go goes to bench/RESULTS.md; one alone: python -m bench NAME
	$(BIN)/python -m bench

lock: $(STAMP) ## pin the newest versions that pyproject.toml allows
	$(UV_COMPILE) --upgrade pyproject.toml --output-file requirements.lock
	$(UV_COMPILE) --upgrade pyproject.toml --extra dev --constraint requirements.lock --output-file requirements-dev.lock
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
	  | $(UV_COMPILE) --upgrade --constraint requirements-dev.lock - --output-file requirements-build.lock
	echo pip-audit | $(UV_COMPILE) --upgrade - --output-file requirements-audit.lock

clean: ## remove the virtual environment, caches and build results (data/ stays)
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
