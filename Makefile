# `make demo` and `make test` need nothing but Python 3.11 or 3.12 and make; `make` alone lists the rest.
# The network is used once, by pip, when .venv is missing or pyproject.toml or constraints.txt has changed.

python = .venv/bin/python
babel = $(python) -m babel.messages.frontend
catalogue = src/afina/messages
example = examples/mensajes.csv

# The system's own python3 if it is one that constraints.txt was tested with, else the nearest that will do.
PYTHON ?= $(shell for below in "3, 13" "4, 0"; do for p in python3 python3.12 python3.11; do \
	$$p -c "import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info[:2] < ($$below))" \
	2>/dev/null && echo $$p && exit; done; done)

.NOTPARALLEL:
.PHONY: help demo test prove check messages clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

demo: .venv/installed ## install, then fine-tune the embedded model on the sample data and score it
	.venv/bin/afina finetune $(example) --task classification --overwrite --output-dir runs/demo
	@echo "The report: $(CURDIR)/runs/demo/report.html"

# One process a core, one thread each (tests/conftest.py): small models gain little from a second thread.
test: .venv/installed-dev ## every test but the full-size proofs; ARGS="-k name" picks some
	$(python) -m pytest -n logical --maxprocesses 4 --dist worksteal $(ARGS)

prove: .venv/installed-dev ## the full-size proofs on real data (hours)
	$(python) -m pytest -m prove $(ARGS)

check: .venv/installed-dev ## format, lint, types and the order of the layers
	$(python) -m ruff format --check .
	$(python) -m ruff check .
	$(python) -m mypy
	$(python) -m pytest -q tests/test_layers.py

# Without dates and line numbers, so that a catalogue changes only where a text does.
messages: .venv/installed-dev ## collect the texts, bring the Spanish catalogue up to date and compile it
	$(babel) extract --mapping-file pyproject.toml --keywords "_ N_" --omit-header --no-location \
		--sort-output --width 100 --output-file $(catalogue)/afina.pot src/afina
	$(babel) update --domain afina --input-file $(catalogue)/afina.pot --output-dir $(catalogue) \
		--locale es --init-missing --no-fuzzy-matching --ignore-obsolete --ignore-pot-creation-date --width 100
	$(babel) compile --domain afina --directory $(catalogue) --statistics

clean: ## remove .venv, caches and the demo's run; your own runs stay
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache build dist runs/demo
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps say that .venv holds what these two files ask for.
.venv/installed: pyproject.toml constraints.txt
	$(call install,.)
	@touch $@

.venv/installed-dev: pyproject.toml constraints.txt
	$(call install,.[dev])
	@touch .venv/installed $@

# A .venv that has no working pip (a first attempt that was cut short, a moved folder) is made anew.
define install
@$(python) -m pip --version >/dev/null 2>&1 || { \
	if [ -z "$(PYTHON)" ]; then \
		echo "afina needs Python 3.11 or 3.12 with its venv module (Debian, Ubuntu: apt install python3-venv)."; \
		echo "None was found on the PATH. If it lies elsewhere: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)"; \
		exit 1; fi >&2; \
	"$(PYTHON)" -m venv --clear .venv; }
$(python) -m pip install --disable-pip-version-check --no-input -c constraints.txt -e "$(1)"
endef
