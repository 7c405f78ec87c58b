# Every target sets up what it needs on a machine with Python 3.10+ and make. See `make help`.

PYTHON ?= python3
PROFILE ?= quick
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup reproduce test lint types unit notebooks report bench clean

help:  ## what each target does
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*##[[:space:]]*/\1|/' | while IFS='|' read -r target words; do printf '  make %-10s %s\n' "$$target" "$$words"; done
	@echo '  PROFILE=quick|full, default quick: quick needs no data; full trains what has no record on MNIST and CIFAR-10'

setup: $(READY)  ## a virtual environment from requirements.txt, in .venv

$(READY): requirements.txt pyproject.toml notebooks/config/jupyter_server_config.py
	@$(PYTHON) -c 'import sys; sys.exit(f"Python 3.10 or newer is needed, $(PYTHON) is {sys.version.split()[0]}: set PYTHON=..." if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.5'
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	@mkdir -p $(VENV)/etc/jupyter && cp notebooks/config/jupyter_server_config.py $(VENV)/etc/jupyter/
	@touch $@

reproduce: $(READY)  ## run every notebook, draw the figures, check the report
	$(BIN)/python -m advanced_optimizers.experiments notebooks --profile $(PROFILE)
	$(BIN)/python -m advanced_optimizers.experiments report --check

test: lint types unit notebooks report  ## lint, types, unit tests, every notebook in the quick profile, the report

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

unit: $(READY)
	$(BIN)/python -m pytest

notebooks: $(READY)
	PROFILE=quick $(BIN)/python -m pytest --nbval-lax --nbval-current-env --nbval-cell-timeout=300 -p no:cacheprovider notebooks

report: $(READY)
	$(BIN)/python -m advanced_optimizers.experiments report --check

bench: $(READY)  ## speed and memory side by side (about six minutes on two quiet cores)
	$(BIN)/python -m benchmarks

clean:  ## delete the environment and the quick profile's output
	rm -rf $(VENV) .scratch
