# make demo    set up, then train, measure and report on the images that come with the install (offline, minutes)
# make test    set up, then lint, type-check and test
# make check   lint and types alone        make slow   the tests that take minutes
# make bench   side by side with peers     make clean  remove what these made
#              (BENCH='--images FOLDER' measures on images of yours instead of on noise)
#
# Everything installs into .venv from pyproject.toml, with the versions that constraints.txt pins. A second run
# installs nothing, unless one of those two files, or the kernels, has changed. Needs Python 3.11 or newer and make.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test check slow gpu bench clean

demo: $(VENV)/demo.stamp
	$(BIN)/alexnet demo

test: check
	@echo "== pytest"
	$(BIN)/python -m pytest

check: $(VENV)/test.stamp
	@echo "== ruff"
	$(BIN)/ruff check .
	@echo "== mypy"
	$(BIN)/mypy

slow: $(VENV)/test.stamp
	$(BIN)/python -m pytest -m "slow and not gpu"

gpu: $(VENV)/test.stamp
	$(BIN)/python -m pytest -m gpu

bench: $(VENV)/test.stamp
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[all,test,bench]'
	$(BIN)/python benchmarks/bench.py --json docs/performance.json --page docs/performance.md $(BENCH)

$(VENV)/demo.stamp: $(VENV)/python.stamp native/kernels.c
	@echo "== installing alexnet[demo] into $(VENV)"
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[demo]'
	@touch $@

$(VENV)/test.stamp: $(VENV)/python.stamp native/kernels.c
	@echo "== installing alexnet[all,test] into $(VENV)"
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[all,test]'
	@touch $@ $(VENV)/demo.stamp

$(VENV)/python.stamp: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "alexnet needs Python 3.11 or newer, and $(PYTHON) is older; name another: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 2; }
	@echo "== making $(VENV)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	@touch $@

clean:
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis runs/demo
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
