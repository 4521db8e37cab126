# Each target makes the environment it needs. `make help` lists them.
VENV := .venv
PYTHON := $(VENV)/bin/python
READY := $(VENV)/ready
READY_DEV := $(VENV)/ready-dev
OLDEST := .venv-oldest
AT_ONCE := -n 2  # tests: a small run of a notebook needs up to 7 GB of memory
# So that runs of one's own are not read; what is trained meanwhile goes when the command ends.
FRESH_RUNS := export RUNS_DIR=$$(mktemp -d); trap 'rm -rf "$$RUNS_DIR"' EXIT;
NOTEBOOKS := $(wildcard notebooks/*.ipynb example-to-use/*.ipynb)

# TensorFlow's start-up lines differ from machine to machine, and nbval compares what notebooks print.
export TF_CPP_MIN_LOG_LEVEL := 3
# oneDNN's kernels, which TensorFlow leaves off on processors without AVX-512.
export TF_ENABLE_ONEDNN_OPTS := 1

.DEFAULT_GOAL := help
.PHONY: help run test test-oldest lint smoke notebooks reproduce publish results

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-14s%s\n", $$1, $$2 }' Makefile

run: $(READY) ## read the published results, then train in small and compare (10 minutes on two cores)
	$(PYTHON) train_model.py

# Two processes would each take the whole of a GPU.
test test-oldest: export CUDA_VISIBLE_DEVICES := -1

test: lint $(READY_DEV) ## everything that is checked, offline
	$(PYTHON) -m pytest $(AT_ONCE) --dist worksteal
	$(FRESH_RUNS) EVIDENCE=read $(PYTHON) -m pytest $(AT_ONCE) --dist loadscope --nbval notebooks/*.ipynb
	$(FRESH_RUNS) $(PYTHON) -m pytest $(AT_ONCE) --dist loadscope --nbval example-to-use/*.ipynb

test-oldest: $(OLDEST)/ready ## the quick tests on the oldest versions that requirements.txt admits
	$(OLDEST)/bin/python -m pytest $(AT_ONCE) --dist worksteal -m "not slow"

lint: $(READY_DEV) ## style of code and notebooks
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check

smoke: $(READY) ## every notebook made small, on the built-in sample
	$(PYTHON) train_model.py all --smoke

notebooks: $(READY) ## renew the notebooks' outputs from the evidence
	$(FRESH_RUNS) $(PYTHON) train_model.py $(NOTEBOOKS) --in-place

reproduce: $(READY) ## train whatever has no published evidence; goes on where it was stopped
	$(PYTHON) train_model.py all
	$(PYTHON) train_model.py 02 03 04 05 06 --seeds 1,2

publish: $(READY) ## copy finished evidence of full CIFAR-10 runs from runs/ to results/
	EVIDENCE=publish $(PYTHON) train_model.py all

results: $(READY) ## rewrite README's table and picture, and the card of the model, from results/
	$(PYTHON) -m helpers.report
	$(PYTHON) -m helpers.model_card

$(PYTHON):
	@for python in python3.13 python3.12 python3.11 python3 python; do \
	  $$python -c 'import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	    && exec $$python -m venv $(VENV); \
	done; echo "Python 3.11, 3.12 or 3.13 is needed, with its venv module, and none is on the PATH" >&2; exit 1

$(READY): requirements.txt constraints.txt | $(PYTHON)
	$(PYTHON) -m pip install --quiet --requirement requirements.txt --constraint constraints.txt
	@touch $@

$(READY_DEV): requirements-dev.txt requirements.txt constraints.txt | $(PYTHON)
	$(PYTHON) -m pip install --quiet --requirement requirements-dev.txt --constraint constraints.txt
	@touch $@ $(READY)

$(OLDEST)/ready: requirements-dev.txt requirements.txt | $(PYTHON)
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --requirement requirements-dev.txt \
	  "tensorflow==2.20.*" "keras==3.13.2" "numpy==2.1.*" "pandas==2.2.*" "scikit-learn==1.6.*" \
	  "scipy==1.14.*" "matplotlib==3.10.*" "pillow==11.0.*" "papermill==2.6.*" "psutil==5.9.*" "pyyaml==6.0.*" \
	  "filelock==3.15.*"
	@touch $@
