# One door to everything: `make` lists what there is.

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# In two processes, by the groups of tests/conftest.py in their order.
IN_TWO := -n 2 --dist loadgroup --no-loadscope-reorder
OLDEST := .venv-oldest
OLDEST_FLWR := 1.41.0

export FLWR_TELEMETRY_ENABLED := 0
export RAY_USAGE_STATS_ENABLED := 0

.DEFAULT_GOAL := help
.PHONY: help install run test long check oldest smoke chaos soak golden build

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) ## make .venv with the exact versions of constraints.txt

$(INSTALLED): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV), a few minutes the first time ..."
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e ".[dev,drift,video]"
	@touch $@
	@echo "Installed."

run: $(INSTALLED) ## the comparison that README shows; options in ARGS, as in make run ARGS="seed=1"
	@$(BIN)/cdc-flower $(ARGS)

test: $(INSTALLED) ## every test, of exhaustive ones a sample; options in ARGS, as in make test ARGS="-k links"
	@$(BIN)/python -m pytest $(IN_TWO) -m "not long" $(ARGS)

long: $(INSTALLED) ## the cases of exhaustive tests that make test leaves out
	@$(BIN)/python -m pytest -n 2 -m long $(ARGS)

check: $(INSTALLED) ## format, lint, types, and the quick tests, which start neither Ray nor Flower's runtime
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy cdc_flower
	@$(BIN)/python -m pytest $(IN_TWO) -m "not ray and not flwr and not slow and not long" $(ARGS)

oldest: $(OLDEST)/.installed ## the tests that concern Flower, with the oldest Flower that pyproject.toml allows
	@$(OLDEST)/bin/python -m pytest tests/wire tests/test_any_app.py tests/test_flower_runtime.py \
		tests/simulations/test_stock_strategies.py tests/simulations/grids $(ARGS)

$(OLDEST)/.installed: pyproject.toml constraints.txt
	@test -x $(OLDEST)/bin/python || $(PYTHON) -m venv $(OLDEST)
	@grep -v -E '^(flwr|uv)==' constraints.txt > $(OLDEST)/constraints.txt # uv is pinned by each Flower
	@$(OLDEST)/bin/python -m pip install -qq --disable-pip-version-check -c $(OLDEST)/constraints.txt \
		"flwr[simulation]==$(OLDEST_FLWR)" -e ".[dev,drift,video]"
	@touch $@

smoke: $(INSTALLED) ## README's command on a small fleet
	@$(BIN)/cdc-flower fleet.num_devices=20 num_segments=3 $(ARGS)

chaos: $(INSTALLED) ## break some 1,400 runs at random and resume them; some in ARGS="--only sigkill --count 10"
	@OMP_NUM_THREADS=1 $(BIN)/python tests/faults/chaos.py $(ARGS)

soak: $(INSTALLED) ## an hour on Ray with a worker killed every 30 s; less with ARGS="--minutes 10"
	@OMP_NUM_THREADS=1 $(BIN)/python tests/faults/soak.py $(ARGS)

golden: $(INSTALLED) ## write the golden tables anew, and try them as on other processors; review the difference
	@GOLDEN=1 $(BIN)/python -m pytest tests/strategies/test_golden.py $(ARGS)
	@ATEN_CPU_CAPABILITY=avx2 $(BIN)/python -m pytest tests/strategies/test_golden.py $(ARGS)
	@ATEN_CPU_CAPABILITY=default $(BIN)/python -m pytest tests/strategies/test_golden.py $(ARGS)

build: $(INSTALLED) ## sdist and wheel in dist/
	@$(BIN)/python -m build
