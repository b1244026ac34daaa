# make demo: from nothing to molecular dynamics of a potential that it trains. make test: the whole suite.
# make lint, make docs: what a pull request must pass. Everything lives in .venv.
PYTHON ?= python3
BIN := .venv/bin
DEMO := outputs/demo

.PHONY: demo test lint docs bench clean

.venv/installed: pyproject.toml constraints.txt
	@echo "== Setting up .venv (about 1.5 GB, two to three minutes)"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,lint,docs]'
	@touch $@

demo: .venv/installed
	@rm -rf $(DEMO)
	@echo "== Training a small NequIP on methanol (B3LYP), then evaluating it"
	$(BIN)/nequip-train -cn methanol_demo output_dir=$(DEMO)
	@echo "== Molecular dynamics (NVE) with the trained potential"
	$(BIN)/nequip md $(DEMO)/best.nequip set:sample_methanol --steps 2000 --output $(DEMO)/md
	@echo "== Everything lies in $(DEMO): best.nequip (the potential), report/report.html, md/"

test: .venv/installed lint docs
	$(BIN)/python -m pytest

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

docs: .venv/installed
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

bench: .venv/installed
	$(BIN)/python scripts/bench.py

clean:
	rm -rf .venv outputs docs/_build
