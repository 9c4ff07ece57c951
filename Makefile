# SPDX-License-Identifier: GPL-2.0-or-later
# Entry points for users and CI; `make help` lists them.

.DEFAULT_GOAL := help
PYTHON := /usr/bin/python3
VENV := .venv
BIN := $(VENV)/bin

# What serving needs, and what only the tests and the benchmark need.
RUN_PACKAGES := python3 python3-venv nbdkit nbdkit-plugin-python
TEST_PACKAGES := $(RUN_PACKAGES) aoetools cpio dmsetup e2fsprogs fio gnutls-bin iproute2 kmod \
	busybox-static libiscsi-bin libnbd-bin nbd-client nbd-server procps python3-libnbd qemu-system-x86 \
	qemu-utils sg3-utils vblade

# apt-get is run only for what dpkg does not know as installed.
define apt_install
	@missing=; for package in $(1); do \
		dpkg-query -W -f '$${db:Status-Status}\n' $$package 2>/dev/null | grep -qx installed \
			|| missing="$$missing $$package"; \
	done; \
	if [ -n "$$missing" ]; then \
		echo "installing:$$missing"; \
		apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; \
	fi
endef

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: packages
packages:
	$(call apt_install,$(RUN_PACKAGES))

.PHONY: test-packages
test-packages:
	$(call apt_install,$(TEST_PACKAGES))

# nbdkit embeds Debian's interpreter, so plugin and daemon share one Python and one set of modules.
$(VENV)/.run: pyproject.toml | packages
	$(PYTHON) -m venv --system-site-packages $(VENV)
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.run
	$(BIN)/pip install --quiet --editable '.[test,lint]'
	touch $@

.PHONY: setup
setup: packages $(VENV)/.run ## install what serving needs (apt packages and .venv)

.PHONY: setup-dev
setup-dev: packages $(VENV)/.dev

# The tests fetch Debian's kernel with apt-get, which needs its lists even if no package is missing.
.PHONY: setup-test
setup-test: test-packages setup-dev
	@apt-cache show linux-image-amd64 >/dev/null 2>&1 || apt-get update -qq

.PHONY: run
run: setup ## serve a 1 GiB sparse disk kept under var/ (AOE_IF=eth0 adds AoE)
	$(BIN)/scst-bridge demo --directory var $(if $(AOE_IF),--aoe-interface $(AOE_IF))

# Two, because a virtual machine or a daemon and its client fill two processors. Files are taken in
# the order of tests/conftest.py. Without -n pytest runs everything in one process.
TEST_WORKERS := 2

.PHONY: test
test: setup-test ## run every test (TEST_WORKERS=0: in one process)
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: conformance
conformance: setup-test ## libiscsi's SCSI test suite on kernel disks of the daemon, as a table
	CONFORMANCE=whole $(BIN)/python -m pytest -q -rP tests/kernel/test_conformance.py

FUZZ_STREAMS := 1000000
FUZZ_CONNECTIONS := 20000
FUZZ_SEED := 1

.PHONY: fuzz
fuzz: setup-dev ## a million spoilt NBD streams, and 20000 over sockets (FUZZ_STREAMS=...)
	$(BIN)/python -m tests.bridges.nbd.fuzz --streams $(FUZZ_STREAMS) --seed $(FUZZ_SEED)
	FUZZ_CONNECTIONS=$(FUZZ_CONNECTIONS) $(BIN)/python -m pytest -q \
		tests/bridges/nbd/test_fuzz.py::test_spoilt_connections_disturb_nobody

.PHONY: lint
lint: setup-dev ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# What a reservation costs whoever holds it.
BASIC_CELLS := $(patsubst %,--cell %,randread-qd1 randwrite-qd1 randread-qd32 randwrite-qd32 read-qd8 write-qd8)

.PHONY: bench
bench: setup-test ## figures beside nbdkit, qemu-nbd and nbd-server
	$(BIN)/python -m tests.bench
	$(BIN)/python -m tests.bench --quick --server ours --server ours-reserved $(BASIC_CELLS)

.PHONY: bench-connections
bench-connections: setup-test ## a thousand idle NBD clients: their memory, and what they cost others
	$(BIN)/python -m tests.bench.connections

.PHONY: bench-aoe
bench-aoe: setup-test ## figures over AoE beside vblade (as root: it makes network namespaces)
	$(BIN)/python -m tests.bench.aoe

.PHONY: clean
clean: ## remove .venv and caches; var/ (your disk) stays
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
