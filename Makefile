# What one does with a clone. `make help` lists it.

BIN := .venv/bin
INSTALLED := .venv/installed
DEMO := .demo
PRISM := .venv/prism
COMPILED := .venv/compiled
HEADER := import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))
PYTHON ?= $(shell for one in python3.11 python3; do \
	$$one -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$one; break; }; done)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test fuzz check lint types imports format golden mutants lane-prism lane-postgres lane-compiled clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(INSTALLED) ## Invent a hospital, decide over its deliveries, compare with the truth, follow a patient; all in .demo
	@rm -rf $(DEMO)
	@$(BIN)/limen simulate --patients 1000 --days 7 --seed 1 --batches 3 --output $(DEMO)/hospital
	@$(BIN)/python -c 'import json; [print(*one.values()) for one in json.load(open("$(DEMO)/hospital/batches.json"))]' | \
		while read -r feeds as_of; do echo; $(BIN)/limen run --input $(DEMO)/hospital/$$feeds --output $(DEMO)/out \
			--state $(DEMO)/state --ledger $(DEMO)/ledger.sqlite --as-of $$as_of </dev/null || exit; done
	@echo
	@$(BIN)/limen score $(DEMO)/out --truth $(DEMO)/hospital/truth.json --state $(DEMO)/state
	@echo
	@$(BIN)/limen story $(DEMO)/out --truth $(DEMO)/hospital/truth.json --state $(DEMO)/state
	@echo
	@echo "what the hospital sent             $(DEMO)/hospital/feeds"
	@echo "what had to leave                  $(DEMO)/hospital/truth.json"
	@echo "payloads for the CRM               $(DEMO)/out/crm/<route>/*.jsonl"
	@echo "aggregates for the other side      $(DEMO)/out/aggregates/*.parquet"
	@echo "for the hospital's reviewers       $(DEMO)/out/review/*.jsonl"
	@echo "a record of every decision         $(DEMO)/out/audit/*.parquet"
	@echo "sealed, what could not be read     $(DEMO)/out/quarantine/*.sealed"
	@echo "what was published, signed         $(DEMO)/out/manifest/*.json"
	@echo "the sums of the last run           $(DEMO)/out/summary.json"
	@echo "what is known between the runs     $(DEMO)/ledger.sqlite"
	@echo "development keys and the vault     $(DEMO)/state"

test: $(INSTALLED) ## Run the tests; LIMEN_CORPUS names a folder of public example messages
	@$(BIN)/python -m pytest $(ARGS)

FUZZ ?= 100000
fuzz: $(INSTALLED) ## Read 100,000 mutated messages of every kind; FUZZ=<n> for more, LIMEN_CORPUS as for test
	@LIMEN_FUZZ=$(FUZZ) $(BIN)/python -m pytest tests/test_fuzz.py $(ARGS)

check: lint types imports test ## Everything that must be right before a change lands

lint: $(INSTALLED) ## Rules and format of the code
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(INSTALLED) ## Types
	@$(BIN)/mypy

imports: $(INSTALLED) ## Which layer may import which
	@$(BIN)/lint-imports

format: $(INSTALLED) ## Format the code, and mend what can be mended by rule
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

golden: $(INSTALLED) ## Write tests/golden anew: on purpose, and read the difference
	@LIMEN_GOLDEN=write $(BIN)/python -m pytest tests/test_architecture.py -k golden
	@git diff --stat -- tests/golden

mutants: $(INSTALLED) ## Break the consent and first-copy rules in every small way; each that no test sees must be explained
	@rm -rf mutants
	@$(BIN)/python -m mutmut run >mutants.log 2>&1 || { tail -n 20 mutants.log; exit 1; }
	@LIMEN_MUTANTS=1 $(BIN)/python -m pytest tests/test_mutants.py

lane-prism: $(INSTALLED) ## The same outputs on Beam's Prism runner; needs Go
	@if ! command -v go >/dev/null; then \
		echo "LANE SKIPPED: prism: Go is not installed"; \
	elif ! GOBIN="$(CURDIR)/$(PRISM)" go install github.com/apache/beam/sdks/v2/go/cmd/prism@v2.77.0; then \
		echo "LANE SKIPPED: prism: Go could not build it (the lines above say why)"; \
	else \
		LIMEN_PRISM="$(CURDIR)/$(PRISM)/prism" $(BIN)/python -m pytest tests/test_prism.py; \
	fi

lane-postgres: $(INSTALLED) ## The vault on a throw-away PostgreSQL
	@.ci/with-postgres $(BIN)/python -m pytest tests/test_vault.py

lane-compiled: $(INSTALLED) ## The same tests on a copy whose rules are compiled to C; needs a C compiler and Python's headers
	@if ! command -v gcc >/dev/null && ! command -v clang >/dev/null; then \
		echo "LANE SKIPPED: compiled: there is no C compiler"; \
	elif ! $(BIN)/python -c '$(HEADER)'; then \
		echo "LANE SKIPPED: compiled: Python's headers are missing; on Debian: apt-get install python3-dev"; \
	else \
		rm -rf $(COMPILED) && mkdir $(COMPILED) && \
		tar -cf - --exclude='./.venv' --exclude='./.git' --exclude='./$(DEMO)' . | tar -xf - -C $(COMPILED) && \
		cd $(COMPILED) && export LIMEN_COMPILED=1 && ../bin/python setup.py --quiet build_ext --inplace && \
		../bin/python -m pytest -m "not swaps" $(ARGS); \
	fi

clean: ## Remove what these commands made
	rm -rf .venv $(DEMO) mutants mutants.log build dist *.egg-info .*_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): requirements.txt setup.py
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; on Debian: apt-get install python3 python3-venv"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "venv is missing; on Debian: apt-get install python3-venv"; exit 1; }
	@echo "making .venv: half a minute, once"
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt -e .
	@touch $@
