# Every target sets up what it needs on a machine with Python 3.10+ and make. See `make help`.

PYTHON ?= python3
PROFILE ?= quick
JOBS ?= 2
# What installs the lock is pinned as well.
PIP := pip==26.3
UV := uv==0.13.9
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# The site's tools have an environment of their own, which sees the packages of the other one behind its own: nobody else
# waits for them, and they may need other versions (on Python 3.10, an older Markdown parser).
DOCS := $(VENV)/docs
# The parts of the unit tests; each is a process.
UNIT := unit-1 unit-2 unit-3 unit-4

.DEFAULT_GOAL := help
.PHONY: help setup reproduce test lint types unit $(UNIT) slow notebooks report bench docs clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo '  PROFILE=full    reproduce with MNIST and CIFAR-10, training what has no record (default: quick, small digits)'
	@echo '  JOBS=2          how many processes run tests at a time'
	@echo '  PYTHON=python3  the Python that .venv is made with, 3.10 or newer'

setup: $(READY)  ## install requirements.txt and this package into .venv

$(READY): requirements.txt pyproject.toml notebooks/config/jupyter_server_config.py
	@$(PYTHON) -c 'import sys; sys.exit(f"Python 3.10 or newer is needed, $(PYTHON) is {sys.version.split()[0]}: set PYTHON=..." if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP) $(UV)
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@# Where Python may not write bytecode, each process would compile what it imports again. A third of what is installed
	@# is never imported, and some files of some versions do not compile.
	$(BIN)/python -m compileall -qq -j 0 -x '/tests?/|/testing/|/rllib/|transformers/models/(?!auto)' \
		$(VENV)/lib advanced_optimizers || true
	@mkdir -p $(VENV)/etc/jupyter && cp notebooks/config/jupyter_server_config.py $(VENV)/etc/jupyter/
	@touch $@

reproduce: $(READY)  ## run the notebooks, check the report
	$(BIN)/python -m advanced_optimizers.experiments notebooks --profile $(PROFILE)
	$(BIN)/python -m advanced_optimizers.experiments report --check

# One thread each: two programs of two threads on two cores wait for one another, some notebooks four times as long.
test unit slow notebooks: export OMP_NUM_THREADS := 1

test: lint  ## run all checks: lint, types, unit tests, notebooks, report
	@# As many processes as JOBS at a time: with more than there are cores, all together would take longer.
	$(MAKE) --no-print-directory -j $(JOBS) JOBS=1 unit-1 notebooks $(filter-out unit-1,$(UNIT)) report types

lint: $(READY)  ## check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)  ## check types
	$(BIN)/mypy

unit: $(READY)  ## run the unit tests
	$(MAKE) --no-print-directory -j $(JOBS) $(UNIT)

$(UNIT): unit-%: $(READY)
	@# Without the plugins that this does not need; that of the notebooks loads for three seconds in each process.
	$(BIN)/python -m tests.in_parts $*/$(words $(UNIT)) -p no:nbval -p no:xdist

slow: $(READY)  ## run the slow unit tests: killed processes, clusters, large figures, more bases (about eight minutes)
	$(BIN)/python -m pytest -p no:nbval -m 'slow and not gpu' -n $(JOBS) --dist loadfile

notebooks: $(READY)  ## run the notebooks as tests, on small digits
	PROFILE=quick $(BIN)/python -m pytest -p tests.light_imports --nbval-lax --nbval-current-env --nbval-cell-timeout=900 -p no:cacheprovider $(if $(filter 1,$(JOBS)),,-n $(JOBS) --dist loadfile) notebooks

report: $(READY)  ## check that the report agrees with the records
	$(BIN)/python -m advanced_optimizers.experiments report --check

bench: $(READY)  ## measure speed and memory side by side (about six minutes on two quiet cores)
	$(BIN)/python -m benchmarks

docs: $(DOCS)/.ready  ## build the report site: build/docs/html/index.html
	@# From nothing each time, so that no page of an earlier build can hide a broken link.
	rm -rf build/docs
	$(DOCS)/bin/python docs/site/pages.py build/docs/pages
	$(DOCS)/bin/python -m sphinx --quiet --fail-on-warning --keep-going --jobs $(JOBS) --conf-dir docs/site \
		--doctree-dir build/docs/doctrees build/docs/pages build/docs/html
	$(DOCS)/bin/python docs/site/check.py build/docs/html

$(DOCS)/.ready: docs/site/requirements.txt $(READY)
	$(BIN)/python -m venv --without-pip $(DOCS)
	$(BIN)/uv pip install --quiet --python $(DOCS)/bin/python -r docs/site/requirements.txt
	$(BIN)/python -c 'import sysconfig; print(*map(sysconfig.get_path, ("purelib", "platlib")), sep="\n")' > \
		$$($(DOCS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/experiments.pth
	@touch $@

clean:  ## delete .venv, .scratch with the quick profile's output, and the report site
	rm -rf $(VENV) .scratch build/docs
