# Everything runs in .venv, which is made from requirements.lock when it is missing or out of date.
HOST ?= 127.0.0.1
PORT ?= 8000
PYTHON ?= python3
export HOST PORT

# How it is served, here, in production (docs/operations.md), in the tests and in the benchmark.
SERVE := --lifespan on --http project.protocol:BoundedHttp --timeout-keep-alive 75 --no-server-header

VENV := .venv/.installed
BENCH_VENV := benchmarks/.venv/.installed
BIN := .venv/bin

.PHONY: run test attacks check bench openapi format lock clean
.DEFAULT_GOAL := run

$(VENV): requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 12) and "Tandem needs Python 3.12 or newer: make PYTHON=python3.13")'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	touch $@

run: $(VENV)  ## Serve /admin and /api on http://HOST:PORT
	exec $(BIN)/uvicorn asgi:app $(SERVE) --host $(HOST) --port $(PORT)

test: $(VENV)  ## The whole suite on SQLite, then what touches the database again on PostgreSQL
	$(BIN)/pytest -n 4 --database sqlite
	$(BIN)/pytest -n 4 --database postgresql

attacks: $(VENV)  ## The attacks alone, on SQLite and on PostgreSQL
	$(BIN)/pytest -n 4 -m attack --database sqlite
	$(BIN)/pytest -n 4 -m attack --database postgresql

check: $(VENV)  ## Lint, format, types, boundaries, migrations, generated tables, API contract, deployment settings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python manage.py makemigrations --check --dry-run
	$(BIN)/python manage.py generate_tables --check
	$(BIN)/python -m contract
	ENVIRONMENT=production SECRET_KEY=$$($(BIN)/python -c 'import secrets; print(secrets.token_urlsafe(64))') \
	DATABASE_URL=postgresql://tandem@127.0.0.1/tandem ALLOWED_HOSTS=example.com BASE_URL=https://example.com \
	$(BIN)/python manage.py check --deploy --fail-level WARNING

bench: $(VENV) $(BENCH_VENV)  ## Tandem beside other frameworks, into benchmarks/results; QUICK=1 is a smoke run
	benchmarks/.venv/bin/python -m benchmarks.run $(if $(QUICK),--quick)

$(BENCH_VENV): benchmarks/requirements.lock
	$(BIN)/python -m venv --clear benchmarks/.venv
	benchmarks/.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $<
	touch $@

openapi: $(VENV)  ## Write docs/openapi anew, and say which changes break clients
	$(BIN)/python -m contract --write

format: $(VENV)  ## Put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock:  ## Pin every dependency of pyproject.toml anew, with hashes, for every platform
	$(PYTHON) -m venv var/lock
	var/lock/bin/pip install --quiet --disable-pip-version-check uv
	var/lock/bin/uv pip compile pyproject.toml --group dev --universal --python-version 3.12 --upgrade \
		--generate-hashes --no-emit-index-url --no-emit-find-links --no-header --quiet --output-file requirements.lock
	var/lock/bin/uv pip compile benchmarks/requirements.in --constraint requirements.lock --universal \
		--python-version 3.12 --upgrade --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --quiet \
		--output-file benchmarks/requirements.lock

clean:  ## Remove what make made; the development database in var/ stays
	rm -rf .venv benchmarks/.venv benchmarks/.cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache tests/contract/node/node_modules
