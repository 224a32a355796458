# The few commands people type. Each makes what it needs first: python3 (3.11 or newer) and make are enough.
.PHONY: help run test unit fix check bench load faults hostile strangers soak up lock openapi servers
.DEFAULT_GOAL := run

PYTHON ?= python3
BIN := .venv/bin

help: ## these commands
	@sed -n 's/^\([a-z]*\):[^#]*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

run: .venv/ready ## current rates at http://localhost:8000/v1/courses, in one process
	@$(BIN)/python -m services

test: .venv/ready servers ## everything that can be proven, on real servers; ARGS="tests/unit -k candles": some of it, one by one
	@tests/install-servers chromium npm faketime
	@$(BIN)/python -m pytest $(or $(ARGS),-n 3 --dist loadfile)

unit: .venv/ready ## what needs no server, in less than a minute
	@$(BIN)/python -m pytest tests/unit -n 3

fix: .venv/ready ## format, and repair what ruff can repair
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

check: .venv/ready ## style, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/ready servers ## speed beside named peers, in one run; ONLY=candles: a part of it
	@tests/install-servers wrk gcc npm
	$(BIN)/python -m loadtest.bench $(ONLY)

load: .venv/ready servers ## one minute of load on every service, with a report
	$(BIN)/python -m loadtest.load

faults: .venv/ready servers ## SEED=1 FAULTS=100: everything is killed, stopped, restarted; then every candle is compared
	@tests/install-servers faketime mount
	$(BIN)/python -m loadtest.faults --seed $(or $(SEED),1) --faults $(or $(FAULTS),100) --page $(or $(PAGE),build/faults.md)

hostile: .venv/ready servers ## SEED=1 MINUTES=10: clients, messages, exchanges and clocks mean harm, beside an honest client
	@tests/install-servers faketime
	$(BIN)/python -m loadtest.hostile --seed $(or $(SEED),1) --minutes $(or $(MINUTES),10) --page $(or $(PAGE),build/hostile.md)

strangers: .venv/ready ## other people's clients and generators, unchanged; ONLY=sse: some; UDF=…/datafeeds/udf: TradingView's adapter
	@tests/install-servers chromium npm
	$(BIN)/python -m tests.strangers --only "$(ONLY)" --page $(or $(PAGE),build/clients.md) $(if $(UDF),--udf $(UDF))

soak: .venv/ready ## MINUTES=30: clients come and go on one process, no two questions alike; memory is to stay flat
	$(BIN)/python -m loadtest.soak --minutes $(or $(MINUTES),30)

up: ## containers behind nginx
	docker compose up --build

openapi: .venv/ready ## the stored description of the API, after it changed
	$(BIN)/python -m services openapi > docs/openapi.json

servers:
	@tests/install-servers

# requirements.txt holds every pinned dependency, with hashes, for every supported Python.
lock: .venv/ready
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/python -m uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --extra dev \
		--no-header --no-emit-index-url --upgrade pyproject.toml --output-file requirements.txt

.venv/ready: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Kurs needs Python 3.11 or newer; name one: make PYTHON=python3.12")'
	@echo "making .venv from requirements.txt"
	@if command -v uv >/dev/null; then \
		uv venv --quiet --allow-existing --python $(PYTHON) .venv && \
		uv pip install --quiet --compile-bytecode --python .venv --require-hashes -r requirements.txt && \
		uv pip install --quiet --python .venv --no-deps --no-build-isolation -e . ; \
	else \
		$(PYTHON) -m venv .venv && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . ; \
	fi
	@$(BIN)/python -m compileall -q services migrations
	@touch $@
