# `make example` and `make test` set up everything they need; `make help` lists all targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON := .venv/bin/python
PIPENV_VERSION := 2026.10.3
# Always use the virtual environment in this checkout, .venv.
PIPENV := env PIPENV_VENV_IN_PROJECT=1 PIPENV_IGNORE_VIRTUALENVS=1 PIPENV_VERBOSITY=-1 .tools/bin/pipenv

# The programs that make reports, and fonts for all scripts that reports may contain.
REPORT_PACKAGES := pandoc ruby-asciidoctor-pdf poppler-utils fonts-noto-core fonts-dejavu-core fonts-droid-fallback fonts-symbola
# Debian's npm conflicts with packages of Node.js from elsewhere, which bring an npm of their own.
NPM := $(shell type -P npm >/dev/null || echo npm)
TEST_PACKAGES := $(REPORT_PACKAGES) postgresql pgbouncer chromium chromium-driver prometheus docker-compose $(NPM)
AXE := tests/page/node_modules/.installed

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

.PHONY: example
example: example-packages .venv/.installed ## Run the example workflow against a small FlowAPI with synthetic data
	@$(PYTHON) examples/run.py

.PHONY: test
test: test-packages $(AXE) lint ## Lint, then run all tests, with coverage
	@echo "Running all tests (about 8 minutes on two cores)"
	@env -u PYTHONDONTWRITEBYTECODE $(PYTHON) -m slipcover --json --out .coverage.json -m pytest -n 4 --dist loadfile --no-loadscope-reorder
	@$(PYTHON) -m slipcover --merge .coverage.json --fail-under 90 --out .coverage.json

.PHONY: lint
lint: .venv/.installed ## Check style and types
	@echo "Checking style with ruff"
	@$(PYTHON) -m ruff check
	@$(PYTHON) -m ruff format --check
	@STEP_LINES=1000 scripts/step "Checking types with mypy (up to a minute the first time)" $(PYTHON) -m mypy

.PHONY: format
format: .venv/.installed ## Format the code
	@$(PYTHON) -m ruff format
	@$(PYTHON) -m ruff check --fix

.PHONY: gallery
gallery: test-packages .venv/.installed ## Make a report that shows everything a report can contain, in gallery/
	@scripts/step "Making the gallery (about 15 s)" $(PYTHON) examples/gallery/make.py gallery
	@echo "See gallery/gallery.pdf and gallery/gallery.html"

.PHONY: docs
docs: .venv/.installed ## Build the documentation into site/; a broken link fails
	@NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict
	@echo "Open site/index.html in a browser"

.PHONY: lock
lock: .tools/.installed ## Lock the newest versions that the Pipfile allows
	@scripts/step "Locking the newest versions with pipenv (up to 3 minutes)" $(PIPENV) lock
	@.tools/bin/python scripts/lock.py

.PHONY: clean
clean: ## Remove everything that the other targets created, .venv included
	@find examples/outputs -mindepth 1 ! -name .gitkeep -delete
	@scripts/step "Removing the example's outputs, .venv, .tools and caches (up to a minute)" \
		rm -rf .venv .tools .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage* gallery site $(dir $(AXE))

.PHONY: example-packages test-packages
example-packages:
	@scripts/install-system-packages $(REPORT_PACKAGES)
test-packages:
	@scripts/install-system-packages $(TEST_PACKAGES)

.tools/.installed: Makefile
	@python=$$(scripts/find-python); scripts/step "Making a virtual environment for pipenv, .tools (a few seconds)" \
		"$$python" -m venv --clear .tools
	@STEP_VENV=.tools scripts/step "Installing pipenv $(PIPENV_VERSION) into .tools (about 10 s)" \
		.tools/bin/python -m pip install --disable-pip-version-check pipenv==$(PIPENV_VERSION)
	@touch $@

.venv/.installed: .tools/.installed Pipfile.lock
	@STEP_VENV=.venv scripts/step "Installing the Python packages of Pipfile.lock into .venv (1 to 3 minutes)" \
		$(PIPENV) sync --categories "packages dev-packages cluster"
	@# For notebooks in JupyterLab and VS Code: `import autoflow` finds `check` and `skip`.
	@echo "$(CURDIR)/autoflow/kernels/importable" \
		> "$$($(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/autoflow.pth"
	@touch $@

$(AXE): tests/page/package-lock.json | test-packages
	@scripts/step "Installing axe-core, which checks the accessibility of the page (a few seconds)" \
		npm ci --prefix $(<D) --ignore-scripts --no-audit --no-fund
	@touch $@
