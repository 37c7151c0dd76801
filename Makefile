# Thin: each target is one or two commands. CMake (CMakePresets.json) and tools/ do the work.
.PHONY: setup build test demo reproduce nightly bench fuzz lint rules format format-check clean
.NOTPARALLEL:

setup:
	tools/setup

build: setup
	cmake --preset release
	cmake --build --preset release

# All that CI runs: the release build and its tests, the rules, and the unit tests under the sanitizers. clang-tidy
# takes as long as a build: `make lint`, `make nightly`.
test: build
	ctest --preset release
	$(MAKE) rules test-asan test-tsan

test-%: setup
	cmake --preset $*
	cmake --build --preset $*
	ctest --preset $*

# The main job on the small default model. Builds the program alone: the tests take longer than all else here.
demo: setup
	cmake --preset release
	cmake --build --preset release --target fovea
	tools/demo

# Every paper of papers/ on both models: hours. FAST=1: minutes.
reproduce: build
	tools/reproduce

nightly:
	tools/nightly

bench: build
	tools/bench

# Each target of fuzz/ for FUZZ_SECONDS (60).
fuzz: setup
	tools/fuzz

rules: setup format-check
	python3 tools/check_includes.py
	python3 tools/check_words.py
	python3 tools/check_questions.py
	python3 tools/speed_tables.py --check

lint: rules
	tools/tidy

format:
	tools/format

format-check:
	tools/format --check

clean:
	rm -rf build build-*
