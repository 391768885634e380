# What one does with this tree. Needs python3 (3.11 or newer, with venv) and nothing else; everything lands in .venv.
# Tests run two files at a time, so that one computes while the other waits; a debugger wants one: make test WORKERS=
# They start hundreds of processes: what these import is compiled once, whatever the environment says of bytecode.
# A machine without a GPU saves gigabytes with:  make demo PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu"

SHELL     := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON    ?= python3
PIP_FLAGS ?=
BENCH     ?= all
WORKERS   ?= -n 2 --dist loadfile --no-loadscope-reorder
VENV      := .venv
BIN       := $(VENV)/bin
PINS      := constraints.txt
PIP       := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile --constraint $(CURDIR)/$(PINS) $(PIP_FLAGS)
# seqeval is published as source alone, and its setup takes the newest setuptools_scm without what that needs from 10 on.
OLD_BUILDS := PIP_CONSTRAINT=$(CURDIR)/tools/build-constraints.txt PIP_BUILD_CONSTRAINT=$(CURDIR)/tools/build-constraints.txt
INFINITY  := .venv-infinity
CLIENTS   := .venv-clients
FUZZ      := .venv-fuzz
TRACKERS  := .venv-trackers
SEED      ?=
ONLY      ?=
# pip compiles nothing (it would compile everything); so that the first start is no slower than the second, this does.
IMPORTS   := import llmos.daemon, llmos.cli.demo, llmos.programs.train, llmos.programs.pull, llmos.nn.resident, peft; \
             from llmos.nn.cpu.cpu_kernels import kernels; kernels(); from llmos.programs.zygote import preload; preload("pytorch")
HINT      = { echo "make: $(1)" >&2; exit 1; }

.PHONY: help demo test quick chaos check bench docs clients fuzz trackers clean

help:  ## this list
	@grep -hE '^[a-z]+:.*## ' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 10

demo: $(VENV)/.runtime  ## from nothing to two promoted models and a chat answer
	@$(BIN)/llmos demo

test: $(VENV)/.dev  ## every test: units, tiny random models, the real daemon with the starter models
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest $(WORKERS)

quick: $(VENV)/.dev  ## the fast tests that need neither torch nor a model: for every save
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest $(WORKERS) -m "not torch and not acceptance and not slow"

chaos: $(VENV)/.dev  ## 20 rounds of kill -9 and SIGSTOP at random under load; a plain `make test` goes 4, one for each victim
	@LLMOS_CHAOS_ROUNDS=20 $(BIN)/python -m pytest -s tests/acceptance/test_chaos.py

check: $(VENV)/.dev  ## style, types, import arrows, names, the made client
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/python tools/sync_client.py --check
	@$(BIN)/python tools/names.py
	@$(BIN)/python tools/tests.py
	@$(BIN)/python -m pytest tests/test_arrows.py tests/docs

bench: $(VENV)/.peers  ## ratios against peers, measured in the same run (BENCH="encoder --full" chooses)
	@$(BIN)/python -m bench $(BENCH)

$(INFINITY)/.peers: bench/requirements-infinity.txt | $(VENV)/.runtime
	@echo "· installing infinity-emb in $(INFINITY), on the same torch"
	@$(BIN)/python -m venv $(INFINITY)
	@from=$$($(BIN)/python -c 'import torch, pathlib; print(pathlib.Path(torch.__file__).parents[1])'); \
	 to=$$($(INFINITY)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
	 for one in torch torchgen functorch $$(cd $$from && echo torch-*.dist-info); do ln -sfn $$from/$$one $$to/$$one; done
	@$(INFINITY)/bin/python -m pip --disable-pip-version-check install --quiet --no-compile $(PIP_FLAGS) -r $< \
	  || $(call HINT,infinity-emb could not be installed; pip said why above)
	@touch $@

.PHONY: $(INFINITY)
$(INFINITY): $(INFINITY)/.peers  ## the one peer whose pins clash, in an environment of its own

# All versions are pinned, also of what the clients need in turn: pip looks for none, which took it the better part of an hour.
$(CLIENTS)/.installed: tests/clients/requirements.txt tests/clients/constraints.txt tests/clients/node/package.json tests/clients/infinity/requirements.txt | $(VENV)/.dev
	@echo "· installing other people's clients in $(CLIENTS)"
	@$(BIN)/python -m venv $(CLIENTS)
	@$(CLIENTS)/bin/python -m pip --disable-pip-version-check install --quiet --no-compile $(PIP_FLAGS) -r $< -c tests/clients/constraints.txt \
	  || $(call HINT,the clients in tests/clients/requirements.txt could not be installed; pip said why above)
	@$(CLIENTS)/bin/python -m pip --disable-pip-version-check install --quiet --no-compile $(PIP_FLAGS) --upgrade --no-deps --target $(CLIENTS)/infinity \
	  -r tests/clients/infinity/requirements.txt || $(call HINT,infinity_client could not be installed; pip said why above)
	@mkdir -p $(CLIENTS)/node && cp tests/clients/node/package.json $(CLIENTS)/node/
	@if command -v npm >/dev/null; then npm --prefix $(CLIENTS)/node install --no-audit --no-fund --silent; \
	 else echo "· no npm here: node's clients are not tried"; fi
	@touch $@

clients: $(CLIENTS)/.installed  ## other people's clients, as released, against the real daemon (ONLY="-k ollama" chooses)
	@$(BIN)/python tools/clients.py $(ONLY)

$(FUZZ)/.installed: tests/fuzz/requirements.txt | $(VENV)/.dev
	@echo "· installing schemathesis in $(FUZZ)"
	@$(BIN)/python -m venv $(FUZZ)
	@$(FUZZ)/bin/python -m pip --disable-pip-version-check install --quiet --no-compile $(PIP_FLAGS) -r $< \
	  || $(call HINT,the fuzzer in tests/fuzz/requirements.txt could not be installed; pip said why above)
	@touch $@

fuzz: $(FUZZ)/.installed  ## two minutes of generated requests, right and wrong, against the document (SEED=n repeats)
	@PYTHONPATH=$(CURDIR) $(BIN)/python tests/fuzz/run.py $(FUZZ)/bin/schemathesis $(if $(SEED),--seed $(SEED))

# The trackers' environment also sees .venv, behind its own packages: torch is not installed twice.
$(TRACKERS)/.installed: tests/trackers/requirements.txt | $(VENV)/.dev
	@echo "· installing experiment trackers in $(TRACKERS)"
	@$(BIN)/python -m venv $(TRACKERS)
	@$(TRACKERS)/bin/python -m pip --disable-pip-version-check install --quiet --no-compile $(PIP_FLAGS) -r $< \
	  || $(call HINT,the trackers in tests/trackers/requirements.txt could not be installed; pip said why above)
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > \
	  $$($(TRACKERS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/llmos-packages.pth
	@touch $@

trackers: $(TRACKERS)/.installed  ## short trainings tracked by wandb, MLflow and trackio as released; nothing leaves the machine
	@PYTHONPATH=$(CURDIR) $(TRACKERS)/bin/python tests/trackers/run.py

docs: $(VENV)/.dev  ## rewrite the tables that are made from code, then check every link and name
	@$(BIN)/python docs/build.py
	@$(BIN)/python -m pytest tests/docs

clean:  ## forget the environment and all caches (models and data in ~/.llmos stay)
	@rm -rf $(VENV) $(INFINITY) $(CLIENTS) $(FUZZ) $(TRACKERS) llmos/nn/kernels-*.so llmos/nn/cpu/kernels-*.so .stamp build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || $(call HINT,no $(PYTHON) here. Install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || $(call HINT,$$($(PYTHON) --version) is too old; llmos needs 3.11. Name a newer one: make PYTHON=python3.12)
	@echo "· making $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); $(call HINT,python could not make a virtual environment. On Debian and Ubuntu: apt-get install python3-venv); }

# torch goes first and alone: a pinned build that is already there is then never replaced by a resolver's idea.
$(VENV)/.runtime: pyproject.toml $(PINS) | $(BIN)/python
	@echo "· installing $$(grep '^torch==' $(PINS)) (the large one, once)"
	@$(PIP) 'pip>=23' torch || $(call HINT,torch could not be installed. Is the package index reachable? Flags for pip go into PIP_FLAGS)
	@echo "· installing llmos and what it needs"
	@$(PIP) --editable . || $(call HINT,the dependencies in pyproject.toml could not be installed; pip said why above)
	@echo "· compiling what daemon and children import"
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -c '$(IMPORTS)'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.runtime
	@echo "· installing the tools for tests and checks"
	@$(OLD_BUILDS) $(PIP) --editable '.[dev]' || $(call HINT,the development tools could not be installed; pip said why above)
	@touch $@ $(VENV)/.runtime

$(VENV)/.peers: bench/requirements.txt | $(VENV)/.runtime
	@echo "· installing the peers that llmos is measured beside"
	@$(OLD_BUILDS) $(PIP) -r bench/requirements.txt || $(call HINT,the peers in bench/requirements.txt could not be installed; pip said why above)
	@touch $@
