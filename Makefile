PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH_FREE := $(VENV)/.installed
DEV := $(VENV)/.installed-dev

.PHONY: demo test check study study-report clean

demo: $(TORCH_FREE)  ## fetch, train three seeds, fuse, evaluate, report
	$(BIN)/lorafuse demo --out runs/demo

test: $(DEV)  ## every test, those on the real weights included
	$(BIN)/python -m pytest

check: $(DEV)  ## lint and types, as CI runs them
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(TORCH_FREE): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

# torch is installed first and alone: its pinned CPU build satisfies what peft asks for.
$(DEV): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@ $(TORCH_FREE)

HOURS ?= 2
STUDY := $(BIN)/python -m experiments

study: $(TORCH_FREE)  ## the whole study, at most HOURS each part; repeat until it ends well
	$(STUDY).controlled_world --hours $(HOURS)
	$(STUDY).math_reasoning --scale laptop --out runs/study/math --hours $(HOURS)
	$(STUDY).code_generation --scale laptop --out runs/study/code --hours $(HOURS)
	$(STUDY).instruction_following --scale laptop --out runs/study/instructions --hours $(HOURS)

study-report: $(TORCH_FREE)  ## every table and figure of the study, from experiments/results/study
	$(STUDY).study_report

clean:
	rm -rf $(VENV) build dist *.egg-info
