# Serinus. `make help` lists the targets; the environment is made by whichever target needs it first.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
# One worker a core. A file stays on one worker, with the stores and the runs that its tests share.
WORKERS := -n 2 --dist loadfile

# Steps are processes of their own and import much: without compiled bytecode each would cost seconds more.
export PYTHONDONTWRITEBYTECODE :=
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

BED := $(PY) -m tests.cluster.bed
# The suite runs in the network of the bed, or against the cluster of KUBECONFIG, where nothing of the bed's is tested.
CLUSTER := $(if $(KUBECONFIG),,$(BED) enter $(CURDIR)/)$(PY) -m pytest -q -m "cluster$(if $(KUBECONFIG), and not bed)" tests/cluster

.PHONY: help demo quick test test-unit test-slow verify-stats pictures lint format bench lock compile clean
.PHONY: manifests cluster-build cluster-up cluster-down cluster-status cluster-shell kind-up test-cluster test-cluster-full

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): requirements.lock pyproject.toml
	test -x $(PY) || python3.11 -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

demo: ## the main job, on this machine alone: raw log to registered model, with a report
	@started=$$(date +%s.%N); $(MAKE) --no-print-directory $(STAMP); $(PY) -m serinus.wiring.start serinus.wiring.demo --started $$started

quick: ## in about a minute on two idle cores: two versions of a shop whose truth is known, and whether the verdicts agree with it
	@started=$$(date +%s.%N); $(MAKE) --no-print-directory $(STAMP); $(PY) -m examples.clicks quick --started $$started

# Programs that no Python package brings: on Debian as root they are installed, elsewhere asked for.
define needs
@command -v $(1) >/dev/null || { test "$$(id -u)" = 0 && apt-get update -qq && \
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o DPkg::Lock::Timeout=300 $(1) >/dev/null; } || \
  { echo "$@ needs $(1): apt-get install $(1)" >&2; exit 1; }
endef

test: test-unit ## all tests: unit, then whole pipelines and contracts on the real systems
	$(PY) -m pytest -q $(WORKERS) -m "slow and not live and not cluster"

test-unit: $(STAMP) ## the fast part
	$(call needs,redis-server)
	$(PY) -m pytest -q $(WORKERS) -m "not slow and not live and not cluster"

test-slow: $(STAMP) ## the live part: minutes of recorded visits through real predictors
	$(PY) -m pytest -q -m live

cluster-up: $(STAMP) ## the test bed: a real Kubernetes with KServe and Envoy Gateway, without Docker (root, Debian)
	$(BED) up

cluster-build: $(STAMP) ## make the programs and images that the test bed's cache does not have
	$(BED) build

cluster-down: $(STAMP) ## end the test bed; nothing of it is left
	$(BED) down

cluster-status: $(STAMP) ## each part of the test bed, and the memory it takes
	$(BED) status

cluster-shell: $(STAMP) ## a shell inside the test bed, with kubectl
	$(BED) shell

manifests: $(STAMP) ## write manifests/base anew from helm/serinus and the values in manifests/samples
	helm=$$(command -v helm || $(BED) program helm) && "$$helm" template serinus helm/serinus --namespace serinus \
	  --values manifests/samples/retail.yaml --values manifests/samples/retail-revisions.yaml >manifests/base/serinus.yaml

kind-up: ## the same on kind, for who has Docker: not run in our CI
	tests/cluster/kind/up.sh

test-cluster: $(STAMP) ## the tests on a cluster: the test bed, or that of KUBECONFIG
	@$(if $(KUBECONFIG),:,$(MAKE) --no-print-directory cluster-up)
	$(CLUSTER)

test-cluster-full: $(STAMP) ## the same with longer load and more repetitions
	@$(if $(KUBECONFIG),:,$(MAKE) --no-print-directory cluster-up)
	$(CLUSTER) --full

pictures: $(STAMP) ## draw the picture of README anew, from the rollouts recorded in docs/sample
	$(PY) docs/sample/pictures.py

verify-stats: $(STAMP) ## simulate the statistics, write the tables of docs/statistics.md (VISITS=file.parquet: recorded visits)
	OMP_NUM_THREADS=1 $(PY) -m tests.stats.verify $(if $(VISITS),--recorded $(VISITS))

lint: $(STAMP) ## ruff, mypy --strict, import contracts, shape, freshness of compiled pipelines
	ruff check .
	ruff format --check .
	mypy
	mypy --package tests.cluster
	mypy --explicit-package-bases -m examples.clicks.__main__ -m examples.clicks.in_process
	lint-imports
	$(PY) tests/shape.py serinus components pipelines feature_repo problems tests/cluster images examples/clicks
	$(PY) -m pipelines.compile --check
	$(call needs,shellcheck)
	shellcheck .ci/run images/environment tests/cluster/kind/up.sh

format: $(STAMP) ## rewrite the code in the house style
	ruff check --fix .
	ruff format .

bench: $(STAMP) ## benchmarks, each with its peer in the same run; results in .serinus/bench/
	$(PY) benchmarks/pit_join.py
	$(PY) benchmarks/online_lookup.py
	$(PY) benchmarks/redis_store.py
	$(PY) benchmarks/snapshots.py
	$(PY) benchmarks/event_log.py
	$(PY) benchmarks/next_look.py
	@test -d $${SERINUS_HOME:-.serinus}/recordings || $(MAKE) --no-print-directory demo # serving needs a trained service
	$(PY) benchmarks/serving.py

compile: $(STAMP) ## write pipelines/compiled/ anew
	$(PY) -m pipelines.compile

lock: $(STAMP) ## write requirements.lock anew from pyproject.toml, and the images' locks from it: hashes, no addresses
	$(PY) -m pip install --quiet --disable-pip-version-check "pip-tools>=7.5"
	$(PY) -m piptools compile --quiet --strip-extras --generate-hashes --allow-unsafe --extra dev \
	  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options --no-header \
	  --output-file requirements.lock pyproject.toml
	$(PY) images/locks.py

clean: ## remove the environment and everything that runs wrote
	rm -rf $(VENV) .serinus
