# make train            set up, train `hull` and its equal-time control side by side, say what the reward brought
# make test             set up, then every check, on as many cores as there are, 4 at most
# make soak-suites      every case of the suites of faults, and the table of docs/reliability.md; hours of one core
# make soak MINUTES=30  a small training that a fault befalls every minute ends with the weights of one left alone
# make quick            linters, types, and the tests of pure functions: two minutes of one core
CONFIG ?= hull
ARGS ?=
WORKERS ?= auto
MINUTES ?= 30
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PEERS := $(VENV)/.peers

.PHONY: setup train test quick soak soak-suites lint format bench clean

setup: $(STAMP)

# torch first and alone: the rest then finds the tested build and looks for no other.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'Python 3.11 or newer is needed: make PYTHON=python3.11'; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

# The control is as long as docs/results has it, so that it need not wait for what it is as long as.
EQUAL_TIME.hull := --equal-time-updates 12706
train: setup
	$(BIN)/rlseq study $(CONFIG) --seeds 1 --jobs 2 --controls equal_time $(EQUAL_TIME.$(CONFIG)) \
		--run runs/$(CONFIG)-$$(date +%Y%m%d-%H%M%S) $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/pytest -n $(WORKERS) --maxprocesses 4 --no-loadscope-reorder $(ARGS)

quick: lint
	$(BIN)/pytest -m 'not slow' $(addprefix tests/,config data decoding envs models objectives) $(ARGS)

soak: setup
	$(BIN)/python scripts/soak.py --minutes $(MINUTES) --runs runs/soak-$$(date +%Y%m%d-%H%M%S) $(ARGS)

soak-suites: setup
	$(BIN)/pytest tests/reliability -n $(WORKERS) --maxprocesses 4 --soak --record docs/reliability $(ARGS); \
		status=$$?; $(BIN)/python scripts/reliability.py; exit $$status

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(PEERS)
	$(BIN)/python scripts/bench.py $(ARGS)

# What the benchmark compares with. Joey NMT demands an old protobuf that excludes everything else, and works without it.
$(PEERS): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps joeynmt
	@touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find rlseq envs tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
