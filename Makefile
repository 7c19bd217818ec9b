# Everything Chamberlain's makers and users do from the command line. `make help` lists it.

PYTHON ?= python3
PYTEST_ARGS ?=
BENCH_ARGS ?=
LOCK_ARGS ?=
FUZZ_EXAMPLES ?= 5
LAWS_REQUESTS ?= 1000000
FAULT_ROUNDS ?= 200
FAULT_SEED ?=
FAULT_SKIP ?=

BIN := .venv/bin
LONG := --override-ini=faulthandler_timeout=3600
PIP := $(BIN)/python -m pip --disable-pip-version-check
COMPILE := $(BIN)/uv --no-config pip compile pyproject.toml --quiet --universal --python-version 3.11 --group build \
	--generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock"

.DEFAULT_GOAL := help
.PHONY: help run dev test e2e slow fuzz laws faults check format golden docs bench lock clean

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' Makefile

# The lock that was installed is kept beside what it installed: while the two are equal there is nothing to do.
# The development lock holds every pin of the other, so an environment made from it serves for both.
run: $(BIN)/python  ## start the server, installing what it needs first; Ctrl-C stops it
	@cmp -s requirements.lock .venv/requirements.lock || { $(call install,requirements.lock); }
	@exec $(BIN)/python -c "$$FOREGROUND" $(BIN)/chamberlain serve

dev: $(BIN)/python  ## install what tests and checks need, too
	@cmp -s requirements-dev.lock .venv/requirements-dev.lock || { $(call install,requirements-dev.lock) \
		&& cp requirements.lock .venv/requirements.lock; }

define install
echo "Installing the packages of $(1) into .venv" \
&& $(PIP) install --quiet --require-hashes --requirement $(1) \
&& $(PIP) install --quiet --no-build-isolation --no-deps --editable . \
&& cp $(1) .venv/$(1)
endef

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Chamberlain needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

# Make dies of a Ctrl-C even if what it runs ends well. So the server takes the terminal's foreground for itself: the key
# reaches it alone, and make lives to pass on its exit status. Ctrl-Z is ignored, since nobody could wake the server again.
define FOREGROUND
import os, signal, sys
if os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp():
    os.setpgid(0, 0)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)
os.execv(sys.argv[1], sys.argv[1:])
endef
export FOREGROUND

# Hundreds of interpreters are started in a run of the tests: what one has compiled the next need not.
unexport PYTHONDONTWRITEBYTECODE

test: dev  ## run the tests against a real PostgreSQL, but for e2e, slow and fuzz; PYTEST_ARGS="-k keypair" for some
	@$(BIN)/python -m pytest --numprocesses=2 --dist=worksteal -m "not slow and not e2e" \
		--ignore=tests/openapi/test_contract.py $(PYTEST_ARGS)

e2e: dev  ## run the tests that start whole servers and PostgreSQLs, kill them, and ask them from the command line
	@$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile -m "e2e and not slow" $(PYTEST_ARGS)

slow: dev  ## run the tests that take half a minute each: the benchmark's own, and the entity that the docs add
	@$(BIN)/python -m pytest --numprocesses=2 -m slow tests/test_bench.py tests/test_docs.py $(PYTEST_ARGS)

fuzz: dev  ## hold the server to its OpenAPI document, for some minutes; FUZZ_EXAMPLES=50 for more requests an operation
	@FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/python -m pytest --numprocesses=2 $(LONG) tests/openapi/test_contract.py

laws: dev  ## hold the policy engine to its laws with a million requests, some minutes; LAWS_REQUESTS=100000 for fewer
	@LAWS_REQUESTS=$(LAWS_REQUESTS) $(BIN)/python -m pytest --numprocesses=2 $(LONG) tests/policy/test_policy_laws.py \
		tests/policy/test_lint_fuzz.py $(PYTEST_ARGS)

faults: dev  ## kill, suspend, cut and fill a server at work, and check its log, 30 minutes; FAULT_ROUNDS=10 for fewer
	@FAULT_ROUNDS="$(FAULT_ROUNDS)" FAULT_SEED="$(FAULT_SEED)" FAULT_SKIP="$(FAULT_SKIP)" $(BIN)/python -m tests.faulting

check: dev  ## lint, types, import contracts, goldens
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python -m tests.golden --check

format: dev  ## put the source in its one format
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

golden: dev  ## rewrite the goldens under tests/golden; read the diff
	@$(BIN)/python -m tests.golden

docs: dev  ## rewrite the outputs and tables that the documentation shows; read the diff
	@$(BIN)/python -m tests.docs

bench: dev  ## measure, print a table, write build/bench.json
	@$(BIN)/python -m tests.bench $(BENCH_ARGS)

lock: dev  ## pin what pyproject.toml asks for; LOCK_ARGS=--upgrade for the newest
	@$(COMPILE) $(LOCK_ARGS) --output-file requirements.lock
	@$(COMPILE) $(LOCK_ARGS) --extra dev --constraint requirements.lock --output-file requirements-dev.lock

clean:  ## remove everything made here, the environment too; a server's data stays
	@rm -rf .venv build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
