# Everything is installed into .venv from pyproject.toml, with the versions that constraints.txt pins. Later runs install
# again only after a change of those two files or of native/kernels.c. Needs Python 3.11 or newer and make.
# TORCH_INDEX names the index of torch. Default: that of the torch which .venv holds, else that of pip's configuration,
# where torch is the CUDA build on Linux, several GB. The build for the CPU:
# make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu

PYTHON ?= python3
EXTRAS ?= all,test
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install -q -c constraints.txt
TORCH_INDEX ?= $(shell $(BIN)/python -c 'from importlib.metadata import version; \
  build = version("torch").partition("+")[2]; print(f"https://download.pytorch.org/whl/{build}" if build else "")' \
  2>/dev/null)

comma  := ,
STAMP  := $(VENV)/installed-$(subst $(comma),-,$(EXTRAS))

.PHONY: help demo test check slow gpu bench docs clean

help:  ## list these targets (default)
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1|\2/p' Makefile | awk -F'|' '{printf "%-12s %s\n", $$1, $$2}'

demo: $(VENV)/installed-demo  ## classifies photographs, then trains: 3 minutes; offline once it is installed
	$(BIN)/alexnet demo

test: check $(VENV)/onnxruntime-web  ## ruff, mypy and the quick tests: 5 to 16 minutes on two cores
	@echo "== pytest: quick tests"
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

check: $(STAMP)  ## ruff and mypy
	@echo "== ruff"
	$(BIN)/ruff check .
	@echo "== mypy"
	$(BIN)/mypy
	@echo "== mypy: what the benchmarks call exists and takes these arguments"
	MYPYPATH=src:benchmarks:benchmarks/reliability $(BIN)/mypy --cache-dir .mypy_cache/benchmarks \
		--explicit-package-bases --ignore-missing-imports --no-strict-optional \
		$(addprefix --disable-error-code ,arg-type assignment call-overload func-returns-value index list-item misc \
		return-value unused-ignore var-annotated) benchmarks

slow: $(STAMP)  ## the slow tests, one at a time, beside those that wait for two hosts
	@echo "== pytest: slow tests"
	$(BIN)/python -m pytest -m "slow and not gpu" --numprocesses 2 --dist loadgroup

# Such a machine may have no network and its own torch: nothing is installed. docs/gpu-queue.md says how without pip's
# index. A test whose package is missing fails, and is not skipped. Other files of tests need packages that these do not.
gpu:  ## the tests that need a CUDA device: in .venv if it is there, else by PYTHON, which needs torch and Triton
	$(firstword $(wildcard $(BIN)/python) $(PYTHON)) -m pytest -m gpu --require-extras -p no:cacheprovider $(addprefix tests/,\
	  runtime/test_triton_kernels.py runtime/test_triton_norm_pool.py runtime/test_dropout_draws.py \
	  runtime/test_kernels.py training/test_trainer.py training/test_gpu_steps.py)

bench: $(STAMP)  ## compare the speed with other libraries; BENCH='--images FOLDER' measures on your images
	$(PIP) -e '.[all,test,openvino]'
	$(BIN)/python benchmarks/bench.py --json docs/performance.json --page docs/performance.md $(BENCH)

docs: $(VENV)/installed-docs $(VENV)/onnxruntime-web  ## build the documentation site into build/site, and check every link without a network
	$(BIN)/python -m docsite.build

clean:  ## remove everything that make has made
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis runs/demo
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/installed-demo: $(VENV)/created native/kernels.c
	@echo "== installing alexnet[interpret] into $(VENV)"
	$(PIP) -e '.[interpret]'
	@touch $@

$(VENV)/installed-docs: $(VENV)/created native/kernels.c
	@echo "== installing alexnet[docs] into $(VENV)"
	$(PIP) -e '.[docs]'
	@touch $@

$(STAMP): $(VENV)/created native/kernels.c
	@echo "== installing alexnet[$(EXTRAS)] into $(VENV)"
	$(PIP) -e '.[$(EXTRAS)]'
	@touch $@ $(VENV)/installed-demo

# The engine of the page of `alexnet export --to web`, 33 MB from npm's registry into the user's cache, by its checksum.
# Without a network the tests of the page are skipped, `make docs` leaves the page out, and .ci/run fails. Any
# installation can fetch it, and the one of the demo is the smallest.
$(VENV)/onnxruntime-web: $(VENV)/installed-demo src/alexnet/serving/browser/runtime.py
	@echo "== fetching onnxruntime-web"
	@if $(BIN)/python -c "from alexnet.serving.browser.runtime import fetch_tarball; fetch_tarball()"; then touch $@; fi

# torchvision, which the tests import, must be from torch's index, or importing it fails.
$(VENV)/created: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "alexnet needs Python 3.11 or newer, and $(PYTHON) is older; name another: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 2; }
	@echo "== creating $(VENV)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	$(if $(TORCH_INDEX),$(PIP) --index-url $(TORCH_INDEX) torch torchvision)
	@touch $@
