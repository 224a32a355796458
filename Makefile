# The commands for people. Each installs what it needs first: python3 (3.11 or newer) and make are enough.
.PHONY: help run test unit pythons fix check bench load faults tasks hostile strangers soak up openapi dev lock servers
.DEFAULT_GOAL := run

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

help: ## list these commands
	@sed -n 's/^\([a-z]*\):[^#]*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

run: $(VENV)/ready ## all of Kurs in one process: rates at http://localhost:8000/v1/courses
	@$(BIN)/python -m services

test: $(VENV)/ready-dev servers ## all tests, on real servers; ARGS="tests/unit -k candles": some of them, one by one
	@tests/install-servers chromium npm faketime
	@$(BIN)/python -m pytest $(or $(ARGS),-n 3 --dist loadfile)

unit: $(VENV)/ready-dev ## the tests that need no server: about a minute
	@$(BIN)/python -m pytest tests/unit -n 3

pythons: $(VENV)/ready-dev ## `make unit` with the oldest and the newest Python found here; `make test` covers that of .venv
	@version='import sys; print("{}.{}".format(*sys.version_info))'; own=$$($(BIN)/python -c "$$version"); \
	tests/pythons | while read -r python; do \
		other=$$($$python -c "$$version") && echo "Python $$other: $$python" && \
		if [ "$$other" = "$$own" ]; then echo "is the one of $(VENV)"; else \
			$(MAKE) --no-print-directory unit PYTHON=$$python VENV=.venv-$$other </dev/null || exit 1; \
		fi; \
	done

fix: $(VENV)/ready-dev ## format, and repair what ruff can repair
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

check: $(VENV)/ready-dev ## style, types, import contracts, words
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.words

bench: $(VENV)/ready-dev servers ## speed, compared with other programs in the same run; ONLY=candles: a part of it
	@tests/install-servers wrk gcc npm
	$(BIN)/python -m loadtest.bench $(ONLY)

load: $(VENV)/ready-dev servers ## one minute of load on all services, with a report
	$(BIN)/python -m loadtest.load

faults: $(VENV)/ready-dev servers ## SEED=1 FAULTS=100: kill, stop and restart everything, then compare every candle
	@tests/install-servers faketime mount
	$(BIN)/python -m loadtest.faults --seed $(or $(SEED),1) --faults $(or $(FAULTS),100) --page $(or $(PAGE),build/faults.md)

tasks: $(VENV)/ready-dev servers ## TASKS=10000: tasks while the broker restarts and their workers are killed; each ends once
	$(BIN)/python -m loadtest.task_faults --seed $(or $(SEED),1) --tasks $(or $(TASKS),10000)

hostile: $(VENV)/ready-dev servers ## SEED=1 MINUTES=10: hostile clients, messages, exchanges and clocks, beside an honest client
	@tests/install-servers faketime
	$(BIN)/python -m loadtest.hostile --seed $(or $(SEED),1) --minutes $(or $(MINUTES),10) --page $(or $(PAGE),build/hostile.md)

strangers: $(VENV)/ready-dev ## run other people's clients and generators; ONLY=sse: some; UDF=…/datafeeds/udf: TradingView's adapter
	@tests/install-servers chromium npm
	$(BIN)/python -m tests.strangers --only "$(ONLY)" --page $(or $(PAGE),build/clients.md) $(if $(UDF),--udf $(UDF))

soak: $(VENV)/ready-dev ## MINUTES=30: clients come and go, each request is different; the memory of Kurs has to stay the same
	$(BIN)/python -m loadtest.soak --minutes $(or $(MINUTES),30)

up: ## all of Kurs in containers, behind nginx
	docker compose up --build

openapi: $(VENV)/ready ## write docs/openapi.json, after the API changed
	$(BIN)/python -m services openapi > docs/openapi.json

dev: $(VENV)/ready-dev ## install the development set into .venv; the other commands do so themselves

servers:
	@tests/install-servers

# Pins every dependency with its hashes, for every supported Python: requirements.txt has what runs, requirements-dev.txt
# that and the development set, in the same versions.
UV = $(shell command -v uv || echo "$(BIN)/python -m uv")
COMPILE = $(UV) pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header --no-emit-index-url \
	--group build pyproject.toml

lock: $(VENV)/ready-dev
	command -v uv >/dev/null || $(BIN)/python -m pip install --quiet uv
	$(COMPILE) --all-extras --upgrade --output-file requirements-dev.txt
	cp requirements-dev.txt requirements.txt  # uv keeps the versions that it finds there
	$(COMPILE) --output-file requirements.txt

# Modules are compiled when they are imported: compiling all of them now takes longer than the rest.
$(VENV)/ready: requirements.txt pyproject.toml
	@$(call install,requirements.txt,--no-compile,)
	@touch $@

$(VENV)/ready-dev: requirements-dev.txt requirements.txt pyproject.toml
	@$(call install,requirements-dev.txt,--compile,--compile-bytecode)
	@$(BIN)/python -m compileall -q services migrations
	@touch $(VENV)/ready $@

# $(call install,FILE,options of pip,options of uv): makes .venv with the packages of FILE, which names their dependencies too,
# and with Kurs itself.
define install
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Kurs needs Python 3.11 or newer; name one: make PYTHON=python3.12")' && \
	echo "making $(VENV) from $(1)" && \
	if command -v uv >/dev/null; then \
		uv venv --quiet --allow-existing --python $(PYTHON) $(VENV) && \
		uv pip install --quiet $(3) --python $(VENV) --no-deps --require-hashes -r $(1) && \
		uv pip install --quiet --python $(VENV) --no-deps --no-build-isolation -e . ; \
	else \
		$(PYTHON) -m venv $(VENV) && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check $(2) --no-deps --require-hashes -r $(1) && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . ; \
	fi
endef
