# Commands for people and CI. They need make and Python 3.11 to 3.13; everything else is installed into .venv.

BIN := .venv/bin
# The lock files list every package, so pip has nothing to resolve. Without --no-deps, old versions of pip look for newer
# versions of packages that are requested with an extra, and then fail because those are not in the lock file.
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -q --no-deps --require-hashes
PYTHON_FITS := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))

RECIPE ?= compact
SOURCES ?= $(wildcard ../shared/data/learn)
DATA ?= $(wildcard ../shared/data/mnist.npz)
# Optional data for a report; the report lists what is missing.
IMAGES ?= $(wildcard ../shared/data/wild-dev)
TAGS ?= $(if $(IMAGES),photo$(comma)paint$(comma)canvas$(comma)crop)
OUTLIERS ?= $(wildcard ../shared/data/notdigit-dev)
SEVERAL ?= $(wildcard ../shared/data/multi-dev)
SETS ?= $(wildcard ../shared/data/choose ../shared/data/semeion.npz)
NUMBERS ?= $(wildcard ../shared/data/numbers-dev)
HOSTILE ?= $(wildcard ../shared/data/hostile-dev)
comma := ,
FUZZ ?= decoder
RUNS ?= 1000000
DOCKER ?= docker
TARGET ?= keras
IMAGE ?= digits$(if $(filter slim,$(TARGET)),-slim)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install serve test test-slow check format train report bench bench-peers soak storm fuzz image test-image lock

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "  make %-11s %s\n", $$1, $$2 }'

NEEDED := $(if $(filter litert%,$(DIGITS_ENGINE)),litert,runtime)
serve: .venv/.$(NEEDED) ## start the service on http://localhost:8000 (takes all DIGITS_* settings)
	@exec $(BIN)/python -m app

test: .venv/.dev ## run the tests, two at a time (PYTEST_FLAGS=--cov measures coverage)
	$(BIN)/python -m pytest -n 2 --dist worksteal $(PYTEST_FLAGS)

test-slow: .venv/.dev .venv-kserve/.kserve ## run the long tests: soak, reloads, benchmarks, generated clients
	$(BIN)/python -m pytest -m slow $(PYTEST_FLAGS)

check: .venv/.dev ## lint; check formatting, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.dev ## apply the linter's fixes and format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: .venv/.dev ## install everything into .venv, for python -m training and benchmarks

train: .venv/.dev ## train RECIPE=compact on MNIST (downloaded, or DATA=mnist.npz) and other data (SOURCES=folder)
	$(BIN)/python -m training fit --recipe $(RECIPE) $(if $(DATA),--data $(DATA)) $(if $(SOURCES),--sources $(SOURCES))
	@echo "To serve this model, if its recipe uses preprocessing auto: $(BIN)/python -m training export RUN --version X.Y.Z$(if $(DATA), --data $(DATA))$(if $(SOURCES), --sources $(SOURCES)), where RUN is the run directory above."

report: .venv/.dev ## evaluate models/ on DATA and, if given, IMAGES, OUTLIERS, SEVERAL, SETS, NUMBERS; write its card
	$(BIN)/python -m training report $(if $(DATA),--data $(DATA)) $(if $(IMAGES),--images $(IMAGES)) \
	  $(if $(TAGS),--only-tags $(TAGS)) $(if $(OUTLIERS),--outliers $(OUTLIERS)) \
	  $(if $(SEVERAL),--several $(SEVERAL)) $(SETS:%=--sets %) $(if $(NUMBERS),--numbers $(NUMBERS))

bench: .venv/.dev ## measure throughput, latency, start and memory (eight minutes; BENCH_FLAGS=--help lists options)
	$(BIN)/python -m benchmarks $(if $(IMAGES),--mix $(IMAGES) $(if $(TAGS),--only-tags $(TAGS))) $(BENCH_FLAGS)

bench-peers: .venv/.dev ## compare with LitServe, BentoML, Ray Serve and mosec, installed into .venv-peers/
	$(BIN)/python -m benchmarks.peers $(BENCH_FLAGS)

soak: .venv/.dev ## ten minutes of mixed traffic, broken files, disconnects and reloads (MINUTES=10)
	$(BIN)/python -m benchmarks.soak --minutes $(or $(MINUTES),10) $(if $(HOSTILE),--hostile $(HOSTILE)) \
	  $(if $(DIGITS_ENGINE),--engine $(DIGITS_ENGINE))

storm: .venv/.dev ## send every file of HOSTILE=folder through every endpoint and dialect
	$(BIN)/python -m tests.storm $(or $(HOSTILE),$(error Name a folder: make storm HOSTILE=files)) \
	  $(if $(DIGITS_ENGINE),engine=$(DIGITS_ENGINE))

fuzz: .venv-fuzz/.fuzz ## fuzz with mutated inputs: FUZZ=decoder, forms or tensors, RUNS=1000000; findings go to fuzz/
	@mkdir -p fuzz
	.venv-fuzz/bin/python -m tests.fuzz $(FUZZ) fuzz/$(FUZZ) -runs=$(RUNS) -artifact_prefix=fuzz/$(FUZZ)- -print_final_stats=1

image: ## build the container image with DOCKER=docker (TARGET=slim: without TensorFlow)
	$(DOCKER) build --target $(TARGET) --tag $(IMAGE) \
	  --build-arg VERSION="$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)" \
	  --build-arg REVISION="$$(git rev-parse HEAD 2>/dev/null)" --build-arg CREATED="$$(git log -1 --format=%cI 2>/dev/null)" .

test-image: .venv/.dev ## build both images, run them read-only and send each a picture
	$(BIN)/python -m pytest -m container

lock: .venv/.dev ## pin the dependencies of pyproject.toml (LOCK_FLAGS=--upgrade for the newest versions)
	$(LOCK) --extra dev --output-file requirements/dev.txt
	$(LOCK) --extra keras --constraint requirements/dev.txt --output-file requirements/runtime.txt
	$(LOCK) --extra litert --constraint requirements/dev.txt --output-file requirements/litert.txt
	$(LOCK) --extra fuzz --constraint requirements/dev.txt --output-file requirements/fuzz.txt
	$(PIN) --group kserve --output-file requirements/kserve.txt
PIN = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
  $(LOCK_FLAGS)
LOCK = $(PIN) pyproject.toml

# One environment, three stamp files: the service needs only runtime.txt, or litert.txt without TensorFlow; dev.txt
# includes both at the same versions.
.venv/.%: requirements/%.txt | $(BIN)/pip
	@echo "Installing $< into .venv (the first time takes a minute or two)"
	@$(PIP_INSTALL) -r $<
	@touch $@

# Separate environments for packages that conflict with the service's pins.
.venv-fuzz/.fuzz: requirements/fuzz.txt
.venv-kserve/.kserve: requirements/kserve.txt
.venv-fuzz/.fuzz .venv-kserve/.kserve: | $(BIN)/pip
	@echo "Installing $< into $(@D)"
	@$(BIN)/python -m venv $(@D)
	@$(subst $(BIN),$(@D)/bin,$(PIP_INSTALL)) -r $<
	@touch $@

$(BIN)/pip:
	@for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
	  if "$$python" -c '$(PYTHON_FITS)' 2>/dev/null; then \
	    "$$python" -m venv .venv >/dev/null && exit 0; \
	    echo "Error: $$python cannot create a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; \
	  fi; \
	done; \
	echo "Error: no Python 3.11, 3.12 or 3.13 found; name one: make PYTHON=/path/to/python3.12" >&2; exit 1
