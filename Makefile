# The python3 of the person, if it is recent enough, or the newest other one on the path.
ifndef PYTHON
PYTHON := $(shell for one in python3 python3.13 python3.12 python3.11; do \
	$$one -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$one && break; done)
endif
VENV := .venv
BIN := $(VENV)/bin
SMDEBUG_VENV := .venv-smdebug
OLDEST_VENV := .venv-oldest
CORE_TESTS := tests/test_config.py tests/data tests/features tests/model tests/training tests/hpo tests/debug
EXTRAS := timm,heic,int8,search,sagemaker,rehearsal,serve,export,mlflow,wandb,dev
# On a laptop without a GPU: make install TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
INDEX := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.DEFAULT_GOAL := help
.PHONY: help install demo sample test test-fast test-all test-oldest test-smdebug lint format docs notebooks pictures bench clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# pip compiles with one core; without compiled modules every first import takes seconds, or where Python may not write
# them (PYTHONDONTWRITEBYTECODE) every import.
install: $(VENV)/.installed  ## make .venv with everything but the smdebug extra

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "dogbreeds needs Python 3.11, 3.12 or 3.13: none is on the path."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-compile $(INDEX) --constraint constraints.txt --editable '.[$(EXTRAS)]'
	-$(BIN)/python -m compileall -q -j 0 $(VENV)/lib > $(VENV)/compiled.log 2>&1
	touch $@

sample: data/sample/sample.json  ## draw the sample data

data/sample/sample.json: | install
	$(BIN)/python scripts/make_sample.py

demo: install sample  ## sample data, a training run, a small search, their reports: no photos or weights needed
	$(BIN)/python train.py data=sample model=resnet18 model.weights=random
	$(BIN)/python train.py -m hpo=bayes data=sample model=resnet18 model.weights=random

test: install  ## run the tests, but for those that only CI has the time for
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m "not ci"

test-fast: install  ## run the tests that take seconds
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m "not ci and not slow and not photos"

test-all: test  ## run the tests, and those that only CI has the time for
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m ci

test-oldest: $(OLDEST_VENV)/.installed  ## run the core tests with the oldest versions that are admitted
	PYTHONPATH=src $(OLDEST_VENV)/bin/python -m pytest -m "not ci and not slow" $(CORE_TESTS)

$(OLDEST_VENV)/.installed: constraints-oldest.txt
	python3.11 -m venv $(OLDEST_VENV)
	$(OLDEST_VENV)/bin/pip install --quiet --no-compile $(INDEX) --requirement constraints-oldest.txt pytest
	touch $@

# With Python 3.11 or 3.12, for example: make test-smdebug PYTHON=python3.12
test-smdebug: $(SMDEBUG_VENV)/.installed  ## run the tests of the smdebug hook, in an environment of their own
	PYTHONPATH=src $(SMDEBUG_VENV)/bin/python -m pytest --confcutdir tests/smdebug tests/smdebug

$(SMDEBUG_VENV)/.installed: constraints-smdebug.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' \
		|| { echo "smdebug needs Python 3.11 or 3.12: make test-smdebug PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(SMDEBUG_VENV)
	$(SMDEBUG_VENV)/bin/pip install --quiet --no-compile $(INDEX) --constraint constraints-smdebug.txt smdebug numpy protobuf \
		requests pandas psutil setuptools torch pytorch-lightning torchmetrics pytest
	touch $@

lint: install  ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: install  ## let ruff rewrite the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(VENV)/.docs  ## build the documentation into site/, which needs no server
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# Seconds, and what only this needs.
$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/pip install --quiet --no-compile $(INDEX) --constraint constraints.txt --editable '.[docs]'
	touch $@

notebooks: install  ## run the notebooks of docs/ from top to bottom, and write them back with what they show
	$(BIN)/python -m docs.notebooks

# On other photos, with real weights: make bench PHOTOS=<breed folders> WEIGHTS=<file or folder>
# Only some cases: make bench CASES=head,trials. The cases accuracy and known, which need real ones,
# write docs/accuracy.md; known also needs STRANGERS=<folders of photos of none of the breeds>.
bench: install sample  ## measure speed and equivalence, and write docs/benchmarks.md
	$(BIN)/python scripts/bench.py $(if $(CASES),cases=[$(CASES)]) $(if $(PHOTOS),photos=$(PHOTOS)) \
		$(if $(WEIGHTS),weights=$(WEIGHTS)) $(if $(STRANGERS),strangers=$(STRANGERS))

# On other photos, with real weights, as with bench; no picture shows one of them. What the captions say is not changed.
pictures: install sample  ## make the pictures of the README and of docs/ anew, in a Chromium
	$(BIN)/python scripts/pictures.py $(if $(PHOTOS),photos=$(PHOTOS)) $(if $(WEIGHTS),weights=$(WEIGHTS))

clean:  ## remove the environments and what runs wrote; data/ and the feature store stay
	rm -rf $(VENV) $(SMDEBUG_VENV) $(OLDEST_VENV) build dist site mlflow.db outputs multirun .pytest_cache .mypy_cache .ruff_cache
