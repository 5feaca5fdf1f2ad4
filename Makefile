# `make demo` and `make test` each start from a bare python3 with pip; see CONTRIBUTING.md.

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint docs wheel bench lock plugin clean

# Bytecode is kept in any case: without it every process compiles the libraries anew, for 8 seconds.
unexport PYTHONDONTWRITEBYTECODE

ready := .venv/.ready
run := .venv/bin

help:
	@echo "make demo      set up, then compare theory and posterior on real data (2 minutes)"
	@echo "make test      set up, then run the tests"
	@echo "make test-all  the slow tests too"
	@echo "make lint      ruff, pyright, and the contracts on imports"
	@echo "make docs      build docs/_build/html; its notebooks are executed"
	@echo "make wheel     build sdist and wheel into dist, and try the wheel in a clean environment"
	@echo "make bench     run the benchmarks"
	@echo "make plugin    install a plugin into the environment: make plugin DIR=finwidth-softplus"
	@echo "make lock      resolve requirements.lock anew from pyproject.toml"
	@echo "make clean     remove everything that make made"

demo: $(ready)
	$(run)/finwidth demo

test: $(ready)
	$(run)/python -m pytest -p no:zarr -n logical --maxprocesses 4 --dist loadscope --no-loadscope-reorder -m "not slow"

test-all: $(ready)
	$(run)/python -m pytest -p no:zarr -n logical --maxprocesses 4 --dist loadscope --no-loadscope-reorder

lint: $(ready)
	$(run)/ruff check .
	$(run)/ruff format --check .
	$(run)/pyright
	$(run)/lint-imports --no-cache --no-logo

docs: $(ready)
	$(run)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

wheel: $(ready)
	sh .ci/wheel.sh

bench: $(ready)
	@for script in $(sort $(wildcard tests/benchmarks/bench_*.py)); do \
		echo "$$script"; $(run)/python "$$script" || exit 1; \
	done

plugin: $(ready)
	@sh .ci/environment.sh plugin "$(DIR)"

lock:
	sh .ci/environment.sh lock

clean:
	rm -rf .venv .setup .pytest_cache .ruff_cache .hypothesis .jupyter_cache build dist \
		docs/_build docs/reference/generated docs/jupyter_execute finwidth-demo uv.lock

# The environment. `check` prints a line where the machine lacks something, and make stops with it.
missing = $(shell sh .ci/environment.sh check)
$(ready): pyproject.toml requirements.lock .python-version .ci/environment.sh \
		$(wildcard plugins/*/pyproject.toml)
	@$(if $(missing),$(error $(missing)))echo "Setting up .venv (about half a minute)" >&2
	@sh .ci/environment.sh
	@touch $@
