# make run    create .venv, install, open the workbench on the embedded store
# make test   install what tests need (a browser included) and run all of them
# make check  format, lint, types, floor plan
# make audit  known vulnerabilities of what is installed, static analysis; needs a network
# make fix    format and mend what a machine can mend

PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
NODE := tests/supabase
PIP := $(PY) -m pip --disable-pip-version-check

.PHONY: run install dev browser team-server test test-quick check audit fix bench clean

run: install
	$(PY) -m rlhf_core app

install: $(VENV)/.installed
dev: $(VENV)/.installed-dev

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python requirements.txt requirements-offline.txt
	$(PIP) install --quiet -r requirements.txt
	$(PIP) install --quiet --no-deps -r requirements-offline.txt
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	$(PIP) install --quiet -r requirements-dev.txt
	@touch $@

browser: dev
	@$(PY) tests/install_browser.py

team-server: dev $(NODE)/.installed

$(NODE)/.installed: $(NODE)/package-lock.json tests/install_node.py | $(VENV)/.installed-dev
	@$(PY) tests/install_node.py
	@touch $@

test: dev browser team-server
	$(PY) -m pytest -m "not slow"
	$(PY) -m pytest -m slow # by itself: accounts that the quick ones made at the team's server are not in its way

test-quick: dev browser team-server
	$(PY) -m pytest -m "not slow"

check: dev
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

audit: dev
	$(PIP) install --quiet pip-audit==2.10.1 bandit==1.9.4
	$(VENV)/bin/bandit --quiet --recursive --severity-level medium --confidence-level medium --skip B608 rlhf_core app.py pages # SQL: ruff, S608
	$(VENV)/bin/pip-audit --requirement requirements.txt --no-deps --disable-pip

fix: dev
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

bench: dev browser team-server
	for one in benchmarks/*.py; do echo "== $$one"; $(PY) $$one || exit 1; done

clean:
	rm -rf $(VENV) $(NODE)/node_modules $(NODE)/.installed .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
