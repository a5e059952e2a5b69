# Every check of this project, from a bare machine: Python 3.11 or newer and make are all that it needs.
# The first target that is made creates .venv; each installs the extra that it needs into it, and later ones find that done.
#
#   make test     the tests, on real servers         make PYTEST_ARGS="-x -k fencing" test
#   make soak     ten minutes of load and faults     make SOAK_ARGS="--seconds 60 --seed 7" soak
#   make bench    figures, beside other libraries    make BENCH_ARGS="--effects 500 --rounds 1" bench: shorter throughput
#   make demo     the demo, no server needed         make DEMO_ARGS="--wires 40" demo
#   make servers  servers that PyPI has not, for the tests; without them theirs are skipped
#   make lint     make types     make imports        make check: all of these but the demo
#   make docs     the site of docs/, in build/site   make docs-serve: on http://127.0.0.1:8000, made anew as you write
#   make dist     wheel and sdist, in dist/          make dist-check: each in an empty environment, and the demo
#   make lock     all lock files anew                make sbom: what a release brings, dist/sbom.json
#   make audit-deps   known vulnerabilities of what the lock file names
#   make clean    caches and build results           make distclean: .venv and the servers as well

PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?= -n 2 --dist worksteal
DEMO_ARGS ?=
SOAK_ARGS ?=
BENCH_ARGS ?=

BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs
.NOTPARALLEL:
.DEFAULT_GOAL := help
export PIP_NO_INPUT := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help test soak bench servers demo lint types imports check docs docs-serve dist dist-check lock sbom audit-deps clean distclean

help:
	@sed -n 's/^#\( \{3\}\|$$\)//p' Makefile

test: $(VENV)/.test
	$(BIN)/python -m pytest $(PYTEST_ARGS)

soak: $(VENV)/.test
	$(BIN)/python -m tests.soak $(SOAK_ARGS)

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks.steps
	$(BIN)/python -m benchmarks.throughput $(BENCH_ARGS)
	$(BIN)/python -m benchmarks.latency
	$(BIN)/python -m benchmarks.backlog --backlog 3000 --effects 30
	$(BIN)/python -m benchmarks.slow_calls --calls 600
	$(BIN)/python -m benchmarks.flatness --rows 100000 --times 11
	$(BIN)/python -m benchmarks.dead_rows --effects 2000
	$(BIN)/python -m benchmarks.audit --rows 100000
	$(BIN)/python -m benchmarks.costs --effects 2000
	$(BIN)/python -m benchmarks.scale
# Of so few effects the warm-up is most: whether it was flat is told, and fails nothing.
	-$(BIN)/python -m benchmarks.longrun --effects 10000

servers: $(VENV)/.test
	$(BIN)/python -m tests.servers.debian

demo: $(VENV)/.plain
	$(BIN)/celery -A tape_celery.app tape demo $(DEMO_ARGS)

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.lint
	$(BIN)/mypy

imports: $(VENV)/.lint
	$(BIN)/lint-imports

check: test lint types imports docs

# Not --quiet: it would hide warnings from --strict as well.
docs: $(VENV)/.docs
	$(MKDOCS) build --strict --config-file docs/site/mkdocs.yml

docs-serve: $(VENV)/.docs
	$(MKDOCS) serve --config-file docs/site/mkdocs.yml --watch tape_celery

dist: $(VENV)/.release
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist .

dist-check: dist
	.ci/check-dist $(BIN)/python

lock: $(VENV)/.release
	$(BIN)/uv pip compile pyproject.toml --quiet --upgrade --generate-hashes --no-annotate \
	  --extra test --extra lint --extra docs --extra release --python-version 3.11 \
	  --python-platform x86_64-manylinux_2_28 --custom-compile-command "make lock" --output-file .ci/requirements.lock
	$(BIN)/uv pip compile pyproject.toml $(LOCK_OF_IMAGE) --output-file compose/locks/image.lock \
	  --extra redis --extra postgresql --extra flower --extra otel --extra encryption
	echo hatchling | $(BIN)/uv pip compile - $(LOCK_OF_IMAGE) --output-file compose/locks/build.lock

LOCK_OF_IMAGE = --quiet --upgrade --universal --generate-hashes --no-annotate --python-version 3.11 \
  --constraint .ci/requirements.lock --custom-compile-command "make lock"

sbom: $(VENV)/.release
	mkdir -p dist
	$(BIN)/uv pip compile pyproject.toml --quiet --no-header --extra all --constraint .ci/requirements.lock \
	  | $(BIN)/uv tool run --quiet --from "cyclonedx-bom>=6,<8" cyclonedx-py requirements --pyproject pyproject.toml \
	    --output-file dist/sbom.json -

audit-deps: $(VENV)/.release
	$(BIN)/python .ci/audit_deps.py .ci/requirements.lock $(AUDIT_ARGS)

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path "./$(VENV)/*" -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV) .servers

# What is installed: each stamp stands for one set of extras, and holds for every smaller set too.
# With LOCK=.ci/requirements.lock, as in CI, all of them are installed at once, in the versions and with the hashes there.

ifdef LOCK
define install
$(PIP_INSTALL) --require-hashes --requirement $(LOCK)
$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
@touch $(addprefix $(VENV)/.,plain test lint docs release)
endef
else
install = $(PIP_INSTALL) --editable ".$(EXTRAS)"
endif

$(VENV)/.plain: pyproject.toml $(LOCK) | $(BIN)/python
	$(install)
	@touch $@

$(VENV)/.test: EXTRAS = [test]
$(VENV)/.test: pyproject.toml $(LOCK) | $(BIN)/python
	$(install)
	@touch $@ $(VENV)/.plain

$(VENV)/.bench: pyproject.toml | $(BIN)/python
	$(PIP_INSTALL) --editable ".[bench]"
	@touch $@ $(VENV)/.test $(VENV)/.plain

$(VENV)/.lint: EXTRAS = [test,lint]
$(VENV)/.lint: pyproject.toml $(LOCK) | $(BIN)/python
	$(install)
	@touch $@ $(VENV)/.test $(VENV)/.plain

$(VENV)/.docs: EXTRAS = [docs]
$(VENV)/.docs: pyproject.toml $(LOCK) | $(BIN)/python
	$(install)
	@touch $@ $(VENV)/.plain

$(VENV)/.release: EXTRAS = [release]
$(VENV)/.release: pyproject.toml $(LOCK) | $(BIN)/python
	$(install)
	@touch $@ $(VENV)/.plain

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "This needs Python 3.11 or newer, and '$(PYTHON)' is none. Name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "'$(PYTHON)' cannot make a virtualenv: its venv or ensurepip module is missing." >&2; \
	    echo "Debian, Ubuntu: apt-get install python3-venv. Or name another: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
