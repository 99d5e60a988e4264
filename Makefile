# `make example` and `make test` set up all that they need; `make help` lists all targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON := .venv/bin/python
PIPENV_VERSION := 2026.10.3
# In a folder of this checkout, whatever else may be set.
PIPENV := PIPENV_VENV_IN_PROJECT=1 PIPENV_IGNORE_VIRTUALENVS=1 PIPENV_VERBOSITY=-1 .tools/bin/pipenv

# The programs that make reports, and fonts for all scripts that reports may contain.
REPORT_PACKAGES := pandoc ruby-asciidoctor-pdf fonts-noto-core fonts-dejavu-core fonts-droid-fallback fonts-symbola
TEST_PACKAGES := $(REPORT_PACKAGES) postgresql poppler-utils chromium chromium-driver

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

.PHONY: example
example: example-packages .venv/.installed ## Run the example against a FlowAPI of its own, with synthetic data
	@$(PYTHON) examples/run.py

.PHONY: test
test: test-packages lint ## Lint, then run all tests, with coverage
	$(PYTHON) -m pytest -n 2 --dist loadfile --no-loadscope-reorder --cov --cov-report=term

.PHONY: lint
lint: .venv/.installed ## Check style and types
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy

.PHONY: format
format: .venv/.installed ## Put the code into the project's format
	$(PYTHON) -m ruff format
	$(PYTHON) -m ruff check --fix

.PHONY: gallery
gallery: test-packages .venv/.installed ## Make a report that shows all that a report can hold, in gallery/
	$(PYTHON) examples/gallery/make.py gallery

.PHONY: lock
lock: .tools/.installed ## Lock the newest versions that the Pipfile allows
	$(PIPENV) lock
	$(PYTHON) scripts/lock.py

.PHONY: clean
clean: ## Remove what the example, the tests and the set-up have made
	find examples/outputs -mindepth 1 ! -name .gitkeep -delete
	rm -rf .venv .tools .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage* gallery

.PHONY: example-packages test-packages
example-packages:
	@scripts/install-system-packages $(REPORT_PACKAGES)
test-packages:
	@scripts/install-system-packages $(TEST_PACKAGES)

.tools/.installed: Makefile
	"$$(scripts/find-python)" -m venv --clear .tools
	.tools/bin/python -m pip install --quiet --disable-pip-version-check pipenv==$(PIPENV_VERSION)
	@touch $@

.venv/.installed: .tools/.installed Pipfile.lock
	$(PIPENV) sync --dev
	@touch $@
