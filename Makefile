# dnc: OpenNebula drivers for Xen hosts with local, replicated disks.
# On a fresh Debian machine, as root:  make demo   (two real hosts, the main job)   make test   (all tests)

SHELL    := /bin/sh
DESTDIR  :=
PREFIX   := /usr
ONE_LOCATION :=
PYTHON   := python3
VENV     := .venv
RUN      := $(VENV)/bin
LAB_NAME := default

# OpenNebula keeps everything below ONE_LOCATION when it is set (contract 7.1).
ifeq ($(ONE_LOCATION),)
REMOTES := $(DESTDIR)/var/lib/one/remotes
SHARE   := $(DESTDIR)$(PREFIX)/share/dnc
else
REMOTES := $(DESTDIR)$(ONE_LOCATION)/var/remotes
SHARE   := $(DESTDIR)$(ONE_LOCATION)/share/dnc
endif

.PHONY: help setup packages demo test fast thorough lab-test lab-long lint bench install uninstall lab-up lab-down clean

help:
	@sed -n 's/^## \([a-z-]*\): */  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

## setup: packages of this machine and a virtual environment for tests, lab and demo
setup: packages $(VENV)/ready

packages:
	@missing=$$(for p in $$(sed 's/#.*//' lab/packages.txt); do \
	  dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	if [ -n "$$missing" ]; then \
	  echo "installing:" $$missing; \
	  [ "$$(id -u)" = 0 ] || { echo "make setup: run as root, or install: " $$missing; exit 1; }; \
	  apt-get update -q >/dev/null || echo "apt-get update failed: trying with the lists that are there"; \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing >/dev/null; \
	fi

$(VENV)/ready: setup.cfg | packages
	$(PYTHON) -m venv $(VENV)
	$(RUN)/pip install -q --upgrade pip
	$(RUN)/pip install -q -e '.[test]'
	@touch $@

## demo: the main job on two real Xen hosts in QEMU: import, clone, run, live-migrate, snapshot, power cut, terminate
demo: setup
	$(RUN)/python lab/demo.py --name demo

## test: everything: lint, the fast tests, then the tests on the two real hosts
test: setup lint fast lab-test

## fast: the tests that need no lab
fast: setup
	$(RUN)/python -m pytest -q -m "not lab and not lablong" -n 2 --dist worksteal

## thorough: what the fast tests leave out: every crash point, the second backend everywhere (an hour)
thorough: setup
	$(RUN)/python -m pytest -q -m "thorough and not lab and not lablong" -n 2 --dist worksteal

## lab-test: the tests on the two real hosts
lab-test: setup
	$(RUN)/python -m pytest -v -m lab --durations=20

## lab-long: more of a VM's life on the two real hosts: every way to sleep, every kind of guest and disk
lab-long: setup
	$(RUN)/python -m pytest -v -m lablong --durations=20

## lint: ruff on everything, mypy --strict on lib
lint: setup
	$(RUN)/ruff check .
	$(RUN)/mypy lib/dnc

## bench: the table of costs beside their budgets
bench: setup
	$(RUN)/python -m bench

## lab-up: start (building it when needed) the two hosts and leave them running
lab-up: setup
	lab/lab up --name $(LAB_NAME)

## lab-down: stop them
lab-down:
	lab/lab down --name $(LAB_NAME)

## install: the drivers into a frontend (DESTDIR, PREFIX, ONE_LOCATION); dncrc is never overwritten
install:
	share/install "$(REMOTES)" "$(SHARE)"

## uninstall: take them away again; an edited dncrc stays
uninstall:
	share/install --remove "$(REMOTES)" "$(SHARE)"

clean:
	rm -rf $(VENV) build lib/*.egg-info .mypy_cache .ruff_cache .pytest_cache
