# `make` alone prints the targets. Each is quick when there is nothing to do.
PYTHON   ?= python3
BIN      := .venv/bin
MEMBERS  := $(patsubst %/pyproject.toml,%,$(wildcard libs/*/pyproject.toml services/*/pyproject.toml))
SERVICES := $(filter services/%,$(MEMBERS))
PROJECTS := $(addsuffix /pyproject.toml,$(MEMBERS))
PEERS    := tests/peers services/collector-meter/tests/peers
FAMILY   ?= axpert
WORKERS  ?= 4
PIP      := -m pip --disable-pip-version-check --quiet install
LOCK     := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
            --no-header --no-annotate $(addprefix --no-emit-package ,$(notdir $(MEMBERS)))

# A service starts from bytecode, as in a house; without it every start compiles all it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install demo test check bench soak screenshots capture peers lock

help:
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## /\1	/' | expand -t 13

install: .venv/.members .venv/.assets ## .venv from the hash-checked lock, every service editable, browser assets

.venv/.made: tools/make-venv
	@tools/make-venv $(PYTHON)
	@touch $@

.venv/.locked: requirements.lock .venv/.made
	@echo "installing what requirements.lock names ..."
	@$(BIN)/python $(PIP) --require-hashes -r requirements.lock
	@touch $@

.venv/.members: $(PROJECTS) .venv/.locked
	@$(BIN)/python $(PIP) --no-deps --no-build-isolation $(addprefix -e ./,$(MEMBERS))
	@touch $@

.venv/.assets: $(wildcard services/web/package*.json) services/web/install-assets .venv/.locked
	@services/web/install-assets
	@touch $@

demo: install ## a house to look at: simulated devices, 30 days of history, the portal (DEMO="--help" for options)
	@$(BIN)/simulator demo $(DEMO)

test: ## everything CI runs: installs, fetches what the tests need, then `make check`
	@tools/install-test-packages
	@$(MAKE) --no-print-directory install peers check

check: ## format, lint, types, tests (WORKERS=4 processes)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder

bench: install peers ## the numbers, as JSON, each beside its floor
	@$(BIN)/python -m bench $(BENCH)

soak: install ## half an hour at 20 times the speed, with every fault: nothing may leak, restart or be invented
	@$(BIN)/python tests/soak $(SOAK)

screenshots: install ## docs/screenshots/ anew, from a demo of its own (some minutes)
	@$(BIN)/python tools/screenshots

capture: install ## record a device's answers for the tests: FAMILY=axpert PORT=/dev/serial/by-id/... OUTPUT=file
	@[ -n "$(PORT)" ] && [ -n "$(OUTPUT)" ] || { echo "make capture FAMILY=$(FAMILY) PORT=... OUTPUT=..."; exit 2; }
	@$(BIN)/collector-$(FAMILY) record --port $(PORT) --output $(OUTPUT)

peers: .venv-peers/.locked .venv-peers-sdm/.locked ## the published clients that tests compare with, in .venvs of their own

.venv-peers/.locked: tests/peers/requirements.lock
.venv-peers-sdm/.locked: services/collector-meter/tests/peers/requirements.lock
.venv-peers/.locked .venv-peers-sdm/.locked: .venv/.made
	@echo "installing what $(filter %.lock,$^) names ..."
	@$(BIN)/python -m venv $(@D)
	@$(@D)/bin/python $(PIP) --require-hashes -r $(filter %.lock,$^)
	@touch $@

lock: ## renew the locks (UPGRADE="-P flask" moves one pin, UPGRADE=-U all)
	$(LOCK) $(UPGRADE) --all-extras --group pyproject.toml:dev -o requirements.lock $(PROJECTS) >/dev/null
	$(LOCK) -c requirements.lock --group pyproject.toml:build -o build.lock >/dev/null
	for s in $(SERVICES); do $(LOCK) -c requirements.lock -o $$s/requirements.lock $$s/pyproject.toml >/dev/null || exit 1; done
	for p in $(PEERS); do $(LOCK) -o $$p/requirements.lock $$p/requirements.in >/dev/null || exit 1; done
	! grep -n '://' requirements.lock build.lock $(addsuffix /requirements.lock,$(SERVICES) $(PEERS))
