# make train: from a bare python3 to a trained model, make train CONFIG=digits_gan to another.
# Installed are the versions of requirements/, by their hashes, where they fit the platform; LOCKED=1: these or nothing.
# make test: the tests, on CPU, offline.   make test-slow: every shipped config through the launcher, and the long forms.
# make docs: a site of docs/ in build/docs; a warning is an error.
# make test-long: all combinations of processes, devices and networks, half an hour, by hand.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed$(if $(LOCKED),-locked)
CONFIG ?= digits_cnn

.PHONY: train test test-slow test-long bench bench-quick docs golden lint lock audit clean

train: $(INSTALLED)
	$(BIN)/python launch.py --config=configs/$(CONFIG).py --workdir=runs/$(CONFIG)

test: $(VENV)/installed-test
	JAX_PLATFORMS=cpu $(BIN)/python -m pytest

test-slow: $(VENV)/installed-test $(VENV)/installed-docs $(VENV)/installed-browser
	JAX_PLATFORMS=cpu $(BIN)/python -m pytest -m slow

test-long: $(VENV)/installed-test
	JAX_PLATFORMS=cpu $(BIN)/python -m pytest -m long

bench: $(VENV)/installed-bench
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/scaling.py

bench-quick: $(VENV)/installed-bench
	$(BIN)/python benchmarks/speed.py --quick

docs: $(VENV)/installed-docs
	JAX_PLATFORMS=cpu $(BIN)/python -m sphinx --quiet --fresh-env --fail-on-warning --keep-going docs build/docs

golden: $(VENV)/installed-bench
	PYTHONPATH=.:tests $(BIN)/python -m golden.make_parity

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

$(INSTALLED): pyproject.toml $(wildcard requirements/*.txt) requirements/install.py
	@test -n "$(PYTHON)" || { echo "jaxrec needs Python >= 3.11: install it, or name one: make PYTHON=/path/to/python3.12"; exit 2; }
	$(PYTHON) -m venv $(if $(LOCKED),--clear) $(VENV)
	$(BIN)/python requirements/install.py $(if $(LOCKED),--locked)
	@touch $(VENV)/installed $@

# Writes the lock of this platform and Python anew; make lock PYTHON=python3.13 that of another.
lock:
	$(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/python requirements/install.py --lock

# What is known against the locked versions; asks a service on the network.
audit:
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip install --quiet pip-audit
	for lock in requirements/*.txt; do $(VENV)/audit/bin/pip-audit --strict --disable-pip --require-hashes -r $$lock || exit 1; done

# What an extra of pyproject.toml asks for.
$(VENV)/installed-%: $(INSTALLED)
	$(BIN)/python -m pip install --quiet -e '.[$*]'
	@touch $@

clean:
	rm -rf $(VENV)
