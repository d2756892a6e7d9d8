# make demo and make test are all that a fresh machine with Python 3.11+ and Java 17+ needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# mypy and mutation tests find the packages by their import names in this folder of links.
TYPED := $(VENV)/typed
CONSTRAINTS := conf/constraints.txt
BENCH := .bench
AUDIT := .audit
MUTANTS := .mutants
PACKAGES := schemas udfs expectations jobs
API := $(basename $(notdir $(wildcard jobs/api/*.py)))

PACKED := build/environment

.PHONY: setup java demo test test-crash test-damage test-long test-slow test-mutation test-cluster test-memory test-s3 check format audit bench pyfiles environment clean

setup: java $(VENV)/ready

java:
	@$(PYTHON) jobs/process/java.py

$(VENV)/ready: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "deltabook needs Python 3.11 or newer; name one with make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip setuptools
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) \
	  --editable '.[dev]'
	$(BIN)/python -m deltabook.jobs.tools.setup
	@touch $@

demo: setup
	$(BIN)/deltabook demo

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile
	NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest -m kernel

# Half an hour of two cores.
test-crash: setup
	$(BIN)/python -m pytest tests/faults/crash_everywhere.py

# Every kind of file of a warehouse, damaged in every way, and the remedy that `verify` names: an hour of one core.
test-damage: setup
	$(BIN)/python -m pytest -m long -n 2 tests/faults/test_damage.py

# What `make test` leaves out, except the tables of damage and the object store: a quarter of an hour of two cores.
test-slow: setup
	$(BIN)/python -m pytest -m long -n 2 --dist loadfile --ignore tests/faults/test_damage.py \
	  --ignore tests/integration/deployment/test_s3.py

# A cluster on loopback, a worker of it lost, and a Spark Connect server.
test-cluster: setup
	$(BIN)/python -m pytest -m spark tests/integration/deployment/test_cluster.py

# Every property on LONG times its cases, with a new seed each round: make test-long HOURS=8, or SECONDS=240.
HOURS ?= 1
SECONDS ?= $(shell expr $(HOURS) \* 3600)
LONG ?= 4
test-long: setup
	@end=$$(($$(date +%s) + $(SECONDS))); while [ $$(date +%s) -lt $$end ]; do \
	  again="DELTABOOK_LONG=$(LONG) $(BIN)/python -m pytest -m hypothesis -n 2 -x \
	    --hypothesis-seed=$$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')"; \
	  echo $$again; env $$again || { echo "failed; to repeat it: $$again" | tr -s ' \t'; exit 1; }; done

# Mutants are made in a copy of what is committed, whose bytecode is kept first; an hour or two of one core.
test-mutation: setup $(MUTANTS)/ready
	rm -rf build/mutated && git clone --quiet . build/mutated && mkdir -p build/mutated/imported/deltabook
	ln -s $(addprefix ../../,$(PACKAGES) conf jobs/api/py.typed $(wildcard jobs/api/*.py)) \
	  build/mutated/imported/deltabook
	cd build/mutated && PYTHONPATH=imported ../../$(BIN)/python -m pytest --collect-only > /dev/null
	cd build/mutated && ../../$(MUTANTS)/bin/cosmic-ray init tests/mutation.toml session.sqlite
	cd build/mutated && ../../$(MUTANTS)/bin/cr-filter-operators session.sqlite tests/mutation.toml
	cd build/mutated && ../../$(MUTANTS)/bin/cosmic-ray exec tests/mutation.toml session.sqlite
	$(MUTANTS)/bin/cr-report build/mutated/session.sqlite | tail -n 3

$(MUTANTS)/ready:
	$(PYTHON) -m venv $(MUTANTS)
	$(MUTANTS)/bin/python -m pip install --quiet --disable-pip-version-check 'cosmic-ray>=8.4,<9'
	@touch $@

# 50,000 tasks and 20,000 micro-batches in one session, hours of it: DELTABOOK_TASKS and DELTABOOK_BATCHES set less.
test-memory: setup
	$(BIN)/python -m pytest -s tests/integration/pipeline/memory_level.py

# A warehouse in an object store, on loopback.
test-s3: setup
	$(BIN)/python -m pytest -m spark tests/integration/deployment/test_s3.py

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@if [ -L $(TYPED)/deltabook ]; then rm $(TYPED)/deltabook; fi; mkdir -p $(TYPED)/deltabook
	@ln -sfn $(addprefix ../../../,$(PACKAGES) conf jobs/api/py.typed $(wildcard jobs/api/*.py)) $(TYPED)/deltabook
	cd $(TYPED) && MYPYPATH=. ../bin/mypy --config-file ../../pyproject.toml --exclude '/jobs/api/' \
	  -m deltabook $(addprefix -m deltabook.,$(filter-out __init__,$(API))) $(addprefix -p deltabook.,$(PACKAGES))
	$(BIN)/python -m numpydoc lint $$(git ls-files $(addsuffix /*.py,$(PACKAGES)))
	$(BIN)/codespell $$(git ls-files)
	$(BIN)/pylint --score=n --recursive=y $(PACKAGES)

# Peers live in an environment of their own: they need other versions. make bench WHAT=kernel runs one.
bench: setup $(BENCH)/ready
	$(BIN)/deltabook bench $(WHAT) --folder $(BENCH)/data --peers $(BENCH)/bin/python

$(BENCH)/ready: tests/benchmarks/peers.txt
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/benchmarks/peers.txt
	@touch $@

# Licences; every package in build/dependencies.json and every JAR in build/jars.json (CycloneDX); published
# faults of the packages, where their list can be reached. What pip-audit could not look up is told.
audit: setup $(AUDIT)/ready
	@mkdir -p build
	$(AUDIT)/bin/cyclonedx-py environment $(BIN)/python --output-file build/dependencies.json
	$(AUDIT)/bin/pip-licenses --python $(BIN)/python --summary
	$(BIN)/python -m pip freeze --exclude-editable > build/packages.txt
	rm -f build/faults.json
	-$(AUDIT)/bin/pip-audit --no-deps --disable-pip --requirement build/packages.txt \
	  --format json --output build/faults.json --progress-spinner off
	$(BIN)/python -m deltabook.jobs.tools.audit build/faults.json build/jars.json

$(AUDIT)/ready:
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check cyclonedx-bom pip-audit pip-licenses
	@touch $@

# For executors, by spark-submit --py-files: a zip with an entry for each folder, without which Python finds no
# package in it.
pyfiles: setup
	@rm -rf build/lib build/wheel build/pyfiles build/deltabook.zip
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir build/wheel .
	$(BIN)/python -m zipfile -e build/wheel/*.whl build/pyfiles
	cd build/pyfiles && ../../$(BIN)/python -m zipfile -c ../deltabook.zip *

# For executors, by spark-submit --archives: deltabook and every package that it needs; Spark brings its own.
environment: setup
	rm -rf $(PACKED) $(PACKED).tar.gz
	$(PYTHON) -m venv $(PACKED)
	$(PACKED)/bin/python -m pip install --quiet --disable-pip-version-check \
	  --constraint $(CONSTRAINTS) '.[s3,spark]' venv-pack
	$(PACKED)/bin/python -m pip uninstall --quiet --yes pyspark
	$(PACKED)/bin/venv-pack --quiet --prefix $(PACKED) --output $(PACKED).tar.gz

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(BENCH) $(AUDIT) $(MUTANTS) demo warehouse build *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
