# One door to everything: `make` lists what there is.

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

export FLWR_TELEMETRY_ENABLED := 0
export RAY_USAGE_STATS_ENABLED := 0

.DEFAULT_GOAL := help
.PHONY: help install run test check smoke golden build

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

test: $(INSTALLED) ## every test; options in ARGS, as in make test ARGS="-k links"
	@$(BIN)/python -m pytest $(ARGS)

check: $(INSTALLED) ## format, lint, types, and the quick tests, which start neither Ray nor Flower's runtime
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy cdc_flower
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "not ray and not flwr and not slow" $(ARGS)

smoke: $(INSTALLED) ## README's command on a small fleet
	@$(BIN)/cdc-flower fleet.num_devices=20 num_segments=3 $(ARGS)

golden: $(INSTALLED) ## write the golden tables anew; review the difference
	@GOLDEN=1 $(BIN)/python -m pytest tests/strategies/test_golden.py $(ARGS)

build: $(INSTALLED) ## sdist and wheel in dist/
	@$(BIN)/python -m build
