# make demo    sets everything up, exports models, serves them and calls them
# make test    sets everything up and runs all tests
# make lint    formatters, linters, types
# make check   lint, then the tests, with compiler warnings as errors
# make bench   runs the benchmarks and prints their ratios
# make fuzz    runs the fuzz targets for FUZZ_SECONDS each
# Variables: PYTHON (the interpreter the virtual environment is made with), VENV, BUILD, JOBS, WERROR (ON: warnings are errors).

PYTHON ?= python3
VENV ?= .venv
BUILD ?= build
JOBS ?= $(shell nproc)
FUZZ_SECONDS ?= 60
WERROR ?= OFF
PYTHON_SOURCES := python client tests benchmarks examples

BIN := $(abspath $(VENV))/bin
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
# What building needs, what the tests need besides, and what `make check` and `make bench` need besides.
DEBIAN_BUILD := g++ python3-dev cmake ninja-build libnghttp2-dev libboost-dev libssl-dev zlib1g-dev
DEBIAN_TEST := openssl rapidjson-dev libgtest-dev libgmock-dev libbenchmark-dev ccache curl
DEBIAN_LINT := clang-format git
DEBIAN_EXTRA := clang libclang-rt-14-dev wrk

SHELL := bash
.SHELLFLAGS := -o pipefail -c

.PHONY: demo test lint check bench fuzz setup install format clean
.DEFAULT_GOAL := test

define debian_install
missing=; for p in $(1); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; \
if [ -n "$$missing" ]; then echo "installing:$$missing"; \
  $(SUDO) apt-get update -qq && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; fi
endef

$(VENV)/pip-ready:
	@$(call debian_install,python3-venv)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/build-ready: $(VENV)/pip-ready pyproject.toml
	@$(call debian_install,$(DEBIAN_BUILD))
	$(BIN)/python -m pip install --quiet --group build
	@touch $@

$(VENV)/test-ready: $(VENV)/build-ready
	@$(call debian_install,$(DEBIAN_TEST))
	$(BIN)/python -m pip install --quiet --group test
	$(BIN)/python -m pip install --quiet --group pjrt || echo "no PJRT plugin can be had here: its tests are skipped"
	@touch $@

$(VENV)/lint-ready: $(VENV)/pip-ready pyproject.toml
	@$(call debian_install,$(DEBIAN_LINT))
	$(BIN)/python -m pip install --quiet --group lint
	@touch $@

$(VENV)/extra-ready: $(VENV)/test-ready
	@$(call debian_install,$(DEBIAN_EXTRA))
	@touch $@

setup: $(VENV)/build-ready

# Builds into $(BUILD), so that the next time only what changed is built again. Shows ninja's [n/m]; the whole output
# is in $(BUILD)/install.log, and on the screen when it fails.
define pip_install
mkdir -p $(BUILD)
@echo "building and installing (the first time takes some minutes; log in $(BUILD)/install.log)"
@CMAKE_BUILD_PARALLEL_LEVEL=$(JOBS) $(BIN)/python -m pip install -v --no-build-isolation --no-deps \
	-Cbuild-dir=$(BUILD) -Ccmake.build-type=Release $(1) . 2>&1 | tee $(BUILD)/install.log | \
	sed -un 's/^ *\[\([0-9]*[05]\/[0-9]*\)\] .*/  built \1/p' \
	|| { tail -n 100 $(BUILD)/install.log; exit 1; }
endef

install: $(VENV)/build-ready
	$(call pip_install)

demo: install
	@$(call debian_install,curl)
	PATH="$(BIN):$$PATH" bash examples/demo.sh

test: $(VENV)/test-ready
	$(call pip_install,-Ccmake.define.TFIPU_BUILD_TESTS=ON -Ccmake.define.TFIPU_WERROR=$(WERROR))
	PATH="$(BIN):$$PATH" cmake --build $(BUILD) --parallel $(JOBS)
	ctest --test-dir $(BUILD) --output-on-failure --parallel $(JOBS)
	PATH="$(BIN):$$PATH" $(BIN)/python -m pytest tests -n $(JOBS) --dist loadgroup -q

lint: $(VENV)/lint-ready
	git ls-files '*.cc' '*.h' | xargs clang-format --dry-run --Werror
	$(BIN)/ruff format --check $(PYTHON_SOURCES)
	$(BIN)/ruff check $(PYTHON_SOURCES)
	$(BIN)/mypy
	$(BIN)/mypy --strict client/src

check: lint
	$(MAKE) test WERROR=ON

format: $(VENV)/lint-ready
	git ls-files '*.cc' '*.h' | xargs clang-format -i
	$(BIN)/ruff format $(PYTHON_SOURCES)
	$(BIN)/ruff check --fix $(PYTHON_SOURCES)

bench: $(VENV)/extra-ready
	$(call pip_install,-Ccmake.define.TFIPU_BUILD_TESTS=ON)
	PATH="$(BIN):$$PATH" cmake --build $(BUILD) --parallel $(JOBS)
	PATH="$(BIN):$$PATH" BUILD=$(BUILD) $(BIN)/python benchmarks/run.py

fuzz: $(VENV)/extra-ready
	PATH="$(BIN):$$PATH" CC=clang CXX=clang++ cmake -S . -B $(BUILD)-fuzz -G Ninja -DPython_EXECUTABLE=$(BIN)/python \
	  -DTFIPU_BUILD_TESTS=ON
	PATH="$(BIN):$$PATH" cmake --build $(BUILD)-fuzz --parallel $(JOBS) --target fuzzers
	for f in $$(find $(BUILD)-fuzz -name '*_fuzz' -type f); do $$f $$(ls -d $$f.corpus 2>/dev/null) -max_total_time=$(FUZZ_SECONDS) || exit 1; done

clean:
	rm -rf $(BUILD) $(BUILD)-fuzz $(VENV) demo_models
