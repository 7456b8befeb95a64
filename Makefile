# Everything runs in .venv, which is made from pyproject.toml on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: demo test test-all slow check format bench docs reference pictures clean

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip uninstall --quiet --yes bridges 2>&1 | grep -v WARNING || true # old name
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $(READY)

# One run into all three trackers, checked, and how to look at it.
demo: $(READY)
	$(BIN)/bridge inspect configs/example-run/trainer_state.json
	$(BIN)/bridge export configs/example-run/trainer_state.json --to tensorboard --logdir runs
	$(BIN)/bridge export configs/example-run/trainer_state.json --to mlflow \
	  --tracking-uri sqlite:///runs/mlflow.db
	$(BIN)/bridge export configs/example-run/trainer_state.json --to wandb --wandb-dir runs
	@echo
	@echo "Run 'make demo' again: nothing changes. After the last line below, these commands work:"
	@echo "  tensorboard --logdir runs"
	@echo "  mlflow ui --backend-store-uri sqlite:///runs/mlflow.db"
	@echo "  wandb sync runs/wandb/offline-run-*"
	@echo "  bridge --help"
	@echo "Activate the environment:"
	@echo ". $(BIN)/activate"

PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

test: $(READY)
	$(PYTEST) -m "not slow"

# All tests: those of `make test`, then the slow ones.
test-all: test
	$(PYTEST) -m slow

# Foreign releases, each in an environment of its own; it needs uv. The results of MLflow's are
# written to tests/golden/mlflow_releases.md. The writers of event files and of tables come first.
slow: $(READY)
	$(BIN)/python -m tests.golden.check_event_writers
	$(BIN)/python -m tests.golden.make_tables --check
	$(BIN)/python -m tests.golden.check_mlflow_releases

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m tests.words

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Ratios within one run; prints a table and writes nothing.
bench: $(READY)
	$(BIN)/python -m tests.benchmarks.bench

# The documentation as HTML in site/; `mkdocs serve` shows it while you write.
docs: $(READY)
	$(BIN)/python -m docs.generate --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# The pages of docs/reference that are written from the code.
reference: $(READY)
	$(BIN)/python -m docs.generate

# The pictures of docs/img, from real runs; it needs Chromium.
pictures: $(READY)
	$(BIN)/python -m docs.make_pictures

clean:
	rm -rf $(VENV) runs build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis
