# The few commands people type. Each makes what it needs first: python3 (3.11 or newer) and make are enough.
.PHONY: help run test unit pythons fix check bench load faults hostile strangers soak up openapi dev lock servers
.DEFAULT_GOAL := run

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

help: ## these commands
	@sed -n 's/^\([a-z]*\):[^#]*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

run: $(VENV)/ready ## current rates at http://localhost:8000/v1/courses, in one process
	@$(BIN)/python -m services

test: $(VENV)/ready-dev servers ## everything that can be proven, on real servers; ARGS="tests/unit -k candles": some of it, one by one
	@tests/install-servers chromium npm faketime
	@$(BIN)/python -m pytest $(or $(ARGS),-n 3 --dist loadfile)

unit: $(VENV)/ready-dev ## what needs no server, in less than a minute
	@$(BIN)/python -m pytest tests/unit -n 3

pythons: $(VENV)/ready-dev ## `make unit` with the oldest and the newest Python here, from 3.11 on; .venv's own has `make test`
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

bench: $(VENV)/ready-dev servers ## speed beside named peers, in one run; ONLY=candles: a part of it
	@tests/install-servers wrk gcc npm
	$(BIN)/python -m loadtest.bench $(ONLY)

load: $(VENV)/ready-dev servers ## one minute of load on every service, with a report
	$(BIN)/python -m loadtest.load

faults: $(VENV)/ready-dev servers ## SEED=1 FAULTS=100: everything is killed, stopped, restarted; then every candle is compared
	@tests/install-servers faketime mount
	$(BIN)/python -m loadtest.faults --seed $(or $(SEED),1) --faults $(or $(FAULTS),100) --page $(or $(PAGE),build/faults.md)

hostile: $(VENV)/ready-dev servers ## SEED=1 MINUTES=10: clients, messages, exchanges and clocks mean harm, beside an honest client
	@tests/install-servers faketime
	$(BIN)/python -m loadtest.hostile --seed $(or $(SEED),1) --minutes $(or $(MINUTES),10) --page $(or $(PAGE),build/hostile.md)

strangers: $(VENV)/ready-dev ## other people's clients and generators, unchanged; ONLY=sse: some; UDF=…/datafeeds/udf: TradingView's adapter
	@tests/install-servers chromium npm
	$(BIN)/python -m tests.strangers --only "$(ONLY)" --page $(or $(PAGE),build/clients.md) $(if $(UDF),--udf $(UDF))

soak: $(VENV)/ready-dev ## MINUTES=30: clients come and go on one process, no two questions alike; memory is to stay flat
	$(BIN)/python -m loadtest.soak --minutes $(or $(MINUTES),30)

up: ## containers behind nginx
	docker compose up --build

openapi: $(VENV)/ready ## the stored description of the API, after it changed
	$(BIN)/python -m services openapi > docs/openapi.json

dev: $(VENV)/ready-dev ## what every command but `run` and `up` needs, in .venv; they install it themselves

servers:
	@tests/install-servers

# Every dependency with its version and hashes, for every supported Python: requirements.txt what runs, requirements-dev.txt
# that and the rest in the same versions.
UV = $(shell command -v uv || echo "$(BIN)/python -m uv")
COMPILE = $(UV) pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header --no-emit-index-url \
	--group build pyproject.toml

lock: $(VENV)/ready-dev
	command -v uv >/dev/null || $(BIN)/python -m pip install --quiet uv
	$(COMPILE) --all-extras --upgrade --output-file requirements-dev.txt
	cp requirements-dev.txt requirements.txt  # uv keeps the versions that it finds there
	$(COMPILE) --output-file requirements.txt

# What is imported is compiled then: to compile all of it now takes longer than the rest.
$(VENV)/ready: requirements.txt pyproject.toml
	@$(call install,requirements.txt,--no-compile,)
	@touch $@

$(VENV)/ready-dev: requirements-dev.txt requirements.txt pyproject.toml
	@$(call install,requirements-dev.txt,--compile,--compile-bytecode)
	@$(BIN)/python -m compileall -q services migrations
	@touch $(VENV)/ready $@

# $(call install,FILE,options of pip,options of uv): .venv with what FILE names, and Kurs itself.
define install
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Kurs needs Python 3.11 or newer; name one: make PYTHON=python3.12")' && \
	echo "making $(VENV) from $(1)" && \
	if command -v uv >/dev/null; then \
		uv venv --quiet --allow-existing --python $(PYTHON) $(VENV) && \
		uv pip install --quiet $(3) --python $(VENV) --require-hashes -r $(1) && \
		uv pip install --quiet --python $(VENV) --no-deps --no-build-isolation -e . ; \
	else \
		$(PYTHON) -m venv $(VENV) && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check $(2) --require-hashes -r $(1) && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . ; \
	fi
endef
