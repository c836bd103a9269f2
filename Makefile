# make demo: set up, then distil a student of the bundled teacher.   make test: set up, then lint and test everything.
VENV := .venv
BIN := $(VENV)/bin
# The first Python on the path that is new enough and not too new for torchaudio 2.11; or make PYTHON=/my/python3.11 ...
PYTHON ?= $(shell for python in python3.12 python3.11 python3 python; do \
	$$python -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null \
	&& { echo $$python; break; }; done)

# Processes that test at the same time, a core and 2 GB of memory each.
TEST_PROCESSES ?= 2

.PHONY: demo test lint format clean

demo: $(VENV)/.installed
	$(BIN)/python -m speechdistill.train recipe=distilhubert

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "speechdistill needs Python 3.11 or 3.12; none found. Install one, or give make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.installed-dev: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) build dist *.egg-info
