# The verbs of the project. Needs Python 3.11 or newer, make and a package index; everything else is installed below
# the checkout: .tools (uv, where the machine has none), .venv (all), .venv-serve (what a service and inspect need, no torch),
# .venv-audit (what audit needs).

PYTHON ?= python3
UV_VERSION := 0.13.9
UV := $(shell command -v uv 2>/dev/null || echo $(CURDIR)/.tools/bin/uv)
COMPOSE := $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)
ALL := .venv/bin/python
SERVE := .venv-serve/bin/python
SERVE_EXTRA ?= serve-cpu
SERVE_SIZE := $(if $(filter serve-gpu,$(SERVE_EXTRA)),with CUDA several GB,about 0.5 GB)
# where data are looked at: that needs no torch, so it is not installed for that alone
LOOK := $(if $(wildcard .venv/.synced),.venv,.venv-serve)
LOOK_SYNCED = $(LOOK)/.synced$(if $(filter .venv-serve,$(LOOK)),-$(SERVE_EXTRA))
EXTRAS ?=

DATA ?= data
NAME ?= $(notdir $(patsubst %/,%,$(DATA)))
RECIPE ?=
RUN ?= runs/$(NAME)
STORE ?= models/store
FEEDBACK ?= $(HUBEL_FEEDBACK_DIR)
SERVICE ?= hubel

TRIAL = $(if $(CANARY),--canary $(CANARY)) $(if $(REQUESTS),--requests $(REQUESTS)) $(if $(DISAGREEMENT),--max-disagreement $(DISAGREEMENT))

AREAS ?=
SYSTEMS ?=
MODELS ?=
ROUNDS ?= 5
SCALE ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup serve bench test test-long test-docker lint check audit mutants inspect train retrain resume evaluate export report publish models promote rollback up down clean

help:  ## list the verbs
	@grep -hE '^[a-z-]+:.*  ## ' $(MAKEFILE_LIST) | sort | awk -F ':.*  ## ' '{printf "  make %-11s %s\n", $$1, $$2}'

setup: .venv/.synced .venv-serve/.synced-$(SERVE_EXTRA)  ## install everything below the checkout; EXTRAS="mlflow datasets signing remote" for more
	@$(if $(EXTRAS),$(UV) sync -q --locked --inexact $(EXTRAS:%=--extra %))
	@$(if $(filter signing remote,$(EXTRAS)),UV_PROJECT_ENVIRONMENT=.venv-serve $(UV) sync -q --locked --inexact --no-dev \
	  $(patsubst %,--extra %,$(filter signing remote,$(EXTRAS))))

serve: .venv-serve/.synced-$(SERVE_EXTRA)  ## serve HUBEL_MODEL (cifar10) on HUBEL_PORT (3000); SERVE_EXTRA=serve-gpu for a GPU
	@exec $(SERVE) -m hubel serve

bench: .venv-serve/.synced-$(SERVE_EXTRA)  ## measure SYSTEMS (all) with MODELS (all), ROUNDS=5 times; WRITE=1 puts a part into RESULTS.md
	@UV=$(UV) $(SERVE) -m benchmarks --systems "$(SYSTEMS)" --models "$(MODELS)" --rounds $(ROUNDS) --scale $(SCALE) $(if $(WRITE),--write)

test: .venv/.synced  ## run the tests
	@$(ALL) -m pytest -q

test-long: .venv/.synced  ## run the long tests of overload, faults and hostile input, which print their figures (about 45 minutes)
	@$(ALL) -m pytest -q -m long

test-docker: .venv/.synced  ## build the image and run it beside Prometheus, in a Docker Engine
	@HUBEL_TEST_DOCKER=1 $(ALL) -m pytest -q tests/test_docker.py

lint: .venv/.synced  ## check style
	@$(ALL) -m ruff check .
	@$(ALL) -m ruff format --check .

check: .venv/.synced  ## check types and the lock file
	@$(ALL) -m basedpyright
	@$(UV) lock --check -q

audit: .venv-audit/.synced  ## check the lock file and the Dockerfile, list all parts (.audit/) and look for their known faults
	@UV=$(UV) .venv-audit/bin/python -m tests.audit

mutants: .venv/.synced  ## show that tests can fail: take protections away, of AREAS (all), and run the tests that guard them
	@$(ALL) -m tests.mutants $(AREAS)

inspect: data-exists $(LOOK_SYNCED)  ## look at DATA before training: counts, copies, leaks, damaged and odd images; HTML=file.html for a page
	@$(LOOK)/bin/python -m hubel inspect $(DATA) $(if $(HTML),--html $(HTML))

train: data-exists .venv/.synced  ## from DATA=folder to the package NAME: train by RECIPE (photos), evaluate, export, report, publish
	@$(ALL) -m hubel run $(DATA) --name $(NAME) $(if $(RECIPE),--recipe $(RECIPE)) --out $(RUN) --store $(STORE) --with-weights

retrain: data-exists .venv/.synced  ## from the version of NAME in service, DATA=old and FEEDBACK=folder to the next version; PROMOTE=1, CANARY=10, REQUESTS=500
	@$(ALL) -m hubel retrain $(NAME) $(DATA) $(FEEDBACK) --store $(STORE) $(if $(PROMOTE),--promote) \
	  $(TRIAL)

resume: data-exists .venv/.synced  ## go on with the training in RUN=runs/NAME, and with that alone
	@$(ALL) -m hubel train $(DATA) --out $(RUN) --resume

evaluate: data-exists .venv/.synced  ## measure RUN on DATA
	@$(ALL) -m hubel evaluate $(RUN) $(DATA)

export: data-exists .venv/.synced  ## write RUN as ONNX and compare it on DATA
	@$(ALL) -m hubel export $(RUN) $(DATA)

report: data-exists .venv/.synced  ## write RUN/report.html: how good RUN is on DATA, where it fails, what it sees
	@$(ALL) -m hubel report $(RUN) $(DATA)

publish: .venv/.synced  ## put RUN into the store as the next version of NAME
	@$(ALL) -m hubel publish $(RUN) --name $(NAME) --store $(STORE)

models: .venv-serve/.synced-$(SERVE_EXTRA)  ## list the store
	@$(SERVE) -m hubel models list --store $(STORE)

promote: .venv-serve/.synced-$(SERVE_EXTRA)  ## put MODEL=name:version into service, if the gate lets it; SHADOW=1 or CANARY=10 for a trial first
	@$(SERVE) -m hubel models promote $(MODEL) --store $(STORE) $(if $(HELD_OUT),--data $(HELD_OUT)) $(if $(SHADOW),--shadow) \
	  $(TRIAL)

rollback: .venv-serve/.synced-$(SERVE_EXTRA)  ## put the version of NAME before back into service
	@$(SERVE) -m hubel models rollback $(NAME) --store $(STORE)

up:  ## build and start the service and Prometheus in Docker, and wait until they are healthy; SERVICE=hubel-gpu for a GPU
	@DOCKER_BUILDKIT=1 $(COMPOSE) up -d --build $(SERVICE) prometheus
	@for _ in $$(seq 120); do sleep 1; state=$$($(COMPOSE) ps $(SERVICE) prometheus); \
	  [ $$(echo "$$state" | grep -c '(healthy)') -lt 2 ] || exit 0; echo "$$state" | grep -q Restarting && break; done; \
	  $(COMPOSE) logs --tail=5 $(SERVICE) prometheus; echo "$$state"; exit 1

down:  ## stop and remove them; what Prometheus recorded stays
	@$(COMPOSE) --profile monitoring --profile gpu down

clean:  ## remove what was installed (not runs/, not the store)
	rm -rf .venv .venv-serve .venv-bench .venv-audit .audit .bench .tools .pytest_cache .ruff_cache

.PHONY: data-exists
data-exists: export DATA := $(DATA)
data-exists:  # before anything is installed for it; what has a colon is no folder: mnist:, hf:NAME
	@case "$$DATA" in *:*) ;; *) [ -e "$$DATA" ] || { \
	  echo "error: DATA=$$DATA does not exist; give the folder that holds a folder of images for each class" >&2; exit 1; }; esac

.venv/.synced: pyproject.toml uv.lock | $(UV)
	@echo "$(if $(wildcard .venv),bringing .venv up to date,installing torch and what training and tests need into .venv (about 6 GB, once))" >&2
	@$(UV) sync -q --locked --extra train --extra serve-cpu --extra signing --group fuzz
	@touch $@

.venv-serve/.synced-$(SERVE_EXTRA): pyproject.toml uv.lock | $(UV)
	@echo "$(if $(wildcard .venv-serve),bringing .venv-serve up to date,installing what a service and inspect need into .venv-serve ($(SERVE_SIZE), once))" >&2
	@UV_PROJECT_ENVIRONMENT=.venv-serve $(UV) sync -q --locked --no-dev --extra $(SERVE_EXTRA) --extra inspect
	@rm -f .venv-serve/.synced-*; touch $@

.venv-audit/.synced: pyproject.toml uv.lock | $(UV)
	@UV_PROJECT_ENVIRONMENT=.venv-audit $(UV) sync -q --locked --only-group audit
	@touch $@

$(CURDIR)/.tools/bin/uv:
	@$(PYTHON) -m pip install -q --target .tools uv==$(UV_VERSION) 2>/dev/null || \
	  { $(PYTHON) -m venv .tools && .tools/bin/python -m pip install -q uv==$(UV_VERSION); }
