# Thin: each target is one or two commands. CMake does the work.
.PHONY: setup build test lint format clean

setup:
	tools/setup

build: setup
	cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=Release
	cmake --build build

# All that CI runs.
test: build lint
	ctest --test-dir build --output-on-failure -j 2

lint:
	python3 tools/check_includes.py

format:
	git ls-files '*.cc' '*.h' | xargs clang-format-14 -i

clean:
	rm -rf build build-*
