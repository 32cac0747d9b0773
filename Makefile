# The one entrance. Everything runs in .venv, made from pyproject.toml and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# every process that the tests start would compile the sources again
unexport PYTHONDONTWRITEBYTECODE
# each of two processes takes half of the files, so what a file or a session shares is made once
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: demo test test-slow check fmt bench clean

$(STAMP): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --prefer-binary -e '.[demo]' --group dev
	@touch $@

install: $(STAMP)

demo: $(STAMP)
	@$(BIN)/passbox demo

test: $(STAMP) check
	@$(PYTEST) -m 'not slow'

test-slow: $(STAMP) check
	@$(PYTEST)

check: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

fmt: $(STAMP)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group bench
	@$(BIN)/python -m bench

clean:
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
