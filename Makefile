# Every target installs what it needs: a virtual environment in .venv from constraints.txt, tools in .tools.
# `make` alone lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-input --constraint constraints.txt
export PATH := $(CURDIR)/.tools/bin:$(CURDIR)/$(BIN):$(PATH)

# torchrec asks for the CUDA build of fbgemm, which overwrites the CPU build's files and then does not import on a CPU
# torch. So its other needs are installed here, and torchrec itself without any (docs/decisions/0004-extras.md).
TORCHREC_NEEDS := fbgemm-gpu-cpu tensordict torchmetrics pyre-extensions tqdm

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: $(VENV)/.installed  ## train, build, serve, verify and load a small model
	@recsplit demo $(ARGS)

test: lint .tools/bin/prometheus  ## lint, types, import contracts, and every test but the slow ones
	@echo "==> tests"
	@pytest -q -m "not slow" $(ARGS)

test-slow: $(VENV)/.installed-dev .tools/bin/promtool .tools/bin/prometheus  ## only the slow tests
	@echo "==> slow tests"
	@pytest -q -m slow $(ARGS)

test-tensorrt: $(VENV)/.installed-dev .venv-tensorrt/.installed  ## TensorRT parses the zoo's dense models and builds engines; no GPU needed
	@python -m recsplit_perf.benchmarks.tensorrt_zoo --python .venv-tensorrt/bin/python $(ARGS)

sanitize: $(VENV)/.installed-dev  ## the engine under AddressSanitizer, UBSan and ThreadSanitizer
	@python -m tests.engine.sanitized address,undefined
	@python -m tests.engine.sanitized thread

test-cluster: $(VENV)/.installed-dev  ## manifests and controller against the API server that KUBECONFIG names, in a namespace of their own
	@test -n "$${KUBECONFIG:-}" || { echo "KUBECONFIG names no cluster: KUBECONFIG=FILE make test-cluster"; exit 2; }
	@RECSPLIT_TEST_CLUSTER=1 pytest -q tests/cluster $(ARGS)

test-all: test test-slow  ## every test

lint: $(VENV)/.installed-dev .tools/bin/promtool  ## ruff, mypy --strict, import contracts
	@echo "==> ruff"; ruff check --quiet; ruff format --check --quiet || { echo "not formatted: make format"; exit 1; }
	@echo "==> mypy"; mypy --no-error-summary
	@echo "==> import contracts"; lint-imports --no-logo > .tools/lint-imports.log || { cat .tools/lint-imports.log; exit 1; }

format: $(VENV)/.installed-dev  ## format, and fix what ruff can
	@ruff check --fix --quiet; ruff format --quiet

repository: $(VENV)/.installed  ## rewrite the golden model_repository/; fails if what is committed moved
	@rm -rf .demo/golden; mkdir -p .demo
	@recsplit build recsplit.zoo.tiny:dlrm -o .demo/golden --name tiny --build-id golden --threads 1 --embedding-runtime onnxruntime > /dev/null
	@mkdir -p model_repository; rm -rf model_repository/tiny*; mv .demo/golden/* model_repository/
	@git diff --exit-code --stat -- model_repository || { echo "model_repository/ moved: commit it with the change that moved it"; exit 1; }

docs: $(VENV)/.installed-dev  ## rewrite docs/cli.md from --help, and the index of perf/results
	@python docs/cli_reference.py
	@python -m recsplit_perf.published.index

install: $(VENV)/.installed-dev  ## .venv with everything, and nothing else

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "$(PYTHON) is not Python 3.10 or newer: say PYTHON=... "; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || .ci/debian python3-venv
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "==> installing torch"
	@$(PIP) torch
	@echo "==> installing recsplit with what a demo needs"
	@$(PIP) --editable '.[torch,local,capacity]'
	@command -v c++ > /dev/null || command -v g++ > /dev/null || command -v clang++ > /dev/null || \
	    { echo "==> installing a C++ compiler for the engine"; $(PIP) --editable '.[engine]'; }
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "==> installing what the tests need"
	@$(PIP) --editable '.[torch,local,capacity,dev]' $(TORCHREC_NEEDS)
	@$(PIP) --no-deps torchrec
	@touch $@

# TensorRT for RTX parses and builds without a GPU. 1.5 GB, and nothing else needs it: in an environment of its own.
.venv-tensorrt/.installed:
	@echo "==> installing TensorRT for RTX"
	@$(PYTHON) -m venv .venv-tensorrt
	@.venv-tensorrt/bin/python -m pip --disable-pip-version-check install --quiet --no-input --constraint constraints.txt tensorrt-rtx-cu12 numpy
	@touch $@

# promtool checks our metrics page and rules, prometheus answers queries of autoscalers and of the controller. They come out of
# Debian's package without installing that, which would start a server.
.tools/bin/promtool .tools/bin/prometheus:
	@mkdir -p .tools/bin
	@if command -v $(@F) > /dev/null; then ln -sf "$$(command -v $(@F))" $@; else .ci/debian --unpack prometheus usr/bin/$(@F) $@; fi

constraints: $(VENV)/.installed-dev  ## rewrite constraints.txt from what .venv holds
	@{ sed '/^[^#]/d' constraints.txt; python -m pip --disable-pip-version-check freeze --all --exclude-editable | grep -v '^pip==' | sed 's/+cpu$$//'; } > constraints.new
	@mv constraints.new constraints.txt; touch $(VENV)/.installed $(VENV)/.installed-dev

clean:  ## remove everything that make made
	@rm -rf $(VENV) .tools .demo dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

.PHONY: help demo test test-slow test-all test-cluster sanitize lint format repository docs install constraints clean
