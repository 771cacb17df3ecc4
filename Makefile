# make serve   the chat server on http://127.0.0.1:8000
# make test    everything, with branch coverage
# make check   format, lint, types
# make bench   the benchmarks, into docs/benchmarks-*.md; half an hour
# Each does its own set-up, on a machine that has Python 3.11 or newer and nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WORKER ?= asyncio

.PHONY: serve test check bench clean

serve: $(READY)
	@scripts/vendor-sdk
	$(BIN)/broker serve --loop $(WORKER)

test: $(READY)
	@scripts/install-browser
	@scripts/install-engines
	@scripts/vendor-sdk
	@scripts/run-tests $(BIN)/python

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright

bench: $(READY)
	$(BIN)/python -m benchmarks --output docs

# One environment for all of it: what runs is what was tested.
$(READY): pyproject.toml scripts/make-venv
	@scripts/make-venv $(PYTHON) $(VENV)
	@touch $(READY)

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage*
