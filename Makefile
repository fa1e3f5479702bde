# The verbs of the project. Needs Python 3.11 or newer, make and a package index; everything else is installed below
# the checkout: .tools (uv, where the machine has none), .venv (all), .venv-serve (what a service and inspect need, no torch),
# .venv-audit (what audit needs).

PYTHON ?= python3
UV_VERSION := 0.13.9
UV := $(shell command -v uv 2>/dev/null || echo $(CURDIR)/.tools/bin/uv)
COMPOSE := $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)
PROFILED = $(COMPOSE)$(if $(filter nginx,$(SERVICE)), --profile scale)
ALL := .venv/bin/python
SERVE := .venv-serve/bin/python
SERVE_EXTRA ?= serve-cpu
SERVE_SIZE := $(if $(filter serve-gpu,$(SERVE_EXTRA)),with CUDA several GB,about 0.5 GB)
# where data are looked at: that needs no torch, so it is not installed for that alone
LOOK := $(if $(wildcard .venv/.synced),.venv,.venv-serve)
LOOK_SYNCED = $(LOOK)/.synced$(if $(filter .venv-serve,$(LOOK)),-$(SERVE_EXTRA))
EXTRAS ?=
SERVING_EXTRAS := imagenet parquet ray remote signing tracing

DATA ?= data
STORE ?= models/store
SERVICE ?= hubel
ARGS ?=

# What is given may hold anything: q quotes it for the shell as it is. Options count on the command line of make alone, so that
# a NAME or FORCE of the environment does nothing; ARGS are further options, as the program takes them.
q = '$(subst ','\'',$(value $(1)))'
given = $(if $(filter command,$(firstword $(origin $(1)))),$(value $(1)))
option = $(if $(call given,$(1)),--$(2)=$(call q,$(1)))
flag = $(if $(call given,$(1)),--$(2))

name = $(if $(call given,NAME),$(call q,NAME),"$$($(ALL) -m training.workflows.naming $(call q,DATA))")
run = $(if $(value RUN),$(call q,RUN),runs/$(name))
feedback = $(if $(value FEEDBACK),$(call q,FEEDBACK),$(call q,HUBEL_FEEDBACK_DIR))
TRIAL = $(call option,CANARY,canary) $(call option,REQUESTS,requests) $(call option,DISAGREEMENT,max-disagreement)
GATE = $(call option,HELD_OUT,data) $(call option,CLASSES_CHANGE,classes-change) $(call option,MARGIN,margin) \
  $(call flag,STRICT,strict) $(call option,CALIBRATION,calibration) $(call option,RECALL,recall) $(call option,SPEED,speed) \
  $(call option,MEMORY,memory) $(call option,SECONDS,seconds) $(call option,KEY,key) $(call flag,FORCE,force)

JOBS ?= 2
AREAS ?=
SYSTEMS ?=
MODELS ?=
ROUNDS ?= 5
SCALE ?= 1
# bench DEVICE=cuda installs nothing: a machine with a GPU may have no package index
CUDA = $(filter cuda,$(call given,DEVICE))

.DEFAULT_GOAL := help
.PHONY: help setup serve bench test test-long test-docker screenshots lint check audit release mutants inspect train retrain resume evaluate export report publish models promote rollback up down clean

help:  ## list the verbs
	@grep -hE '^[a-z-]+:.*  ## ' $(MAKEFILE_LIST) | sort | awk -F ':.*  ## ' '{printf "  make %-11s %s\n", $$1, $$2}'

setup: .venv/.synced .venv-serve/.synced-$(SERVE_EXTRA)  ## install everything below the checkout; EXTRAS="mlflow datasets signing remote parquet ray" for more
	@$(if $(EXTRAS),$(UV) sync -q --locked --inexact $(EXTRAS:%=--extra %))
	@$(if $(filter $(SERVING_EXTRAS),$(EXTRAS)),UV_PROJECT_ENVIRONMENT=.venv-serve $(UV) sync -q --locked --inexact --no-dev \
	  $(patsubst %,--extra %,$(filter $(SERVING_EXTRAS),$(EXTRAS))))

serve: .venv-serve/.synced-$(SERVE_EXTRA)  ## serve HUBEL_MODEL (imagenet) on HUBEL_PORT (3000); SERVE_EXTRA=serve-gpu for a GPU
	@exec $(SERVE) -m hubel serve

bench: $(if $(CUDA),,.venv-serve/.synced-$(SERVE_EXTRA))  ## measure SYSTEMS (all) with MODELS (all), ROUNDS=5 times; WRITE=1 puts a part into RESULTS.md; DEVICE=cuda: what a GPU makes of packages
ifneq ($(CUDA),)
	@$(or $(wildcard $(SERVE)),$(PYTHON)) -m benchmarks.cuda $(value ARGS)
else
	@UV=$(UV) $(SERVE) -m benchmarks --systems=$(call q,SYSTEMS) --models=$(call q,MODELS) --rounds=$(call q,ROUNDS) \
	  --scale=$(call q,SCALE) $(if $(WRITE),--write) $(value ARGS)
endif

test: .venv/.synced  ## run the tests, by JOBS=2 processes that take a file at a time
	@$(ALL) -m pytest -q -n $(call q,JOBS) --dist loadfile -o faulthandler_timeout=600 -o faulthandler_exit_on_timeout=true

test-long: .venv/.synced  ## run the long tests of overload, faults and hostile input, which print their figures (about 45 minutes)
	@$(ALL) -m pytest -q -m long

test-docker: .venv/.synced  ## build the images and run them with Prometheus and NGINX in a Docker Engine, and print figures
	@HUBEL_TEST_DOCKER=1 $(ALL) -m pytest -q -s tests/test_docker.py tests/test_docker_scale.py tests/test_docker_train.py

screenshots: .venv/.synced  ## take the pictures in docs/images again, of the page and of a report, by Chromium
	@$(ALL) -m tests.page.screenshots

lint: .venv/.synced  ## check style
	@$(ALL) -m ruff check .
	@$(ALL) -m ruff format --check .

check: .venv/.synced  ## check types and the lock file
	@$(ALL) -m basedpyright
	@$(UV) lock --check -q

audit: .venv-audit/.synced  ## check the lock file and the Dockerfile, list all parts (.audit/) and look for their known faults
	@UV=$(UV) .venv-audit/bin/python -m tests.audit

release: .venv-audit/.synced  ## make dist/ of what is committed: source archive, lists of the parts (SBOM), hashes; build the images; TAG=v0.1.0 checks it
	@UV=$(UV) .venv-audit/bin/python -m tests.release $(call option,TAG,tag) $(value ARGS)

mutants: .venv/.synced  ## show that tests can fail: take the guards of AREAS (access limits admission supply) away, one by one, and run their tests
	@$(ALL) -m tests.mutants $(AREAS)

inspect: data-exists $(LOOK_SYNCED)  ## look at DATA before training: counts, copies, leaks, damaged and odd images; HTML=file.html for a page
	@$(LOOK)/bin/python -m hubel inspect $(call option,HTML,html) $(call flag,STRICT,strict) $(value ARGS) -- $(call q,DATA)

train: data-exists .venv/.synced  ## from DATA=folder to a package: train by RECIPE (one that fits DATA), evaluate, export, report, publish; NAME (of DATA's), ARGS="--epochs 5"
	@$(ALL) -m hubel run $(call option,NAME,name) $(call option,RECIPE,recipe) $(if $(value RUN),--out=$(call q,RUN)) \
	  --store=$(call q,STORE) --with-weights $(value ARGS) -- $(call q,DATA)

retrain: data-exists .venv/.synced  ## from the live version of NAME, DATA=old and FEEDBACK=folder to the next version; PROMOTE=1, CANARY=10, REQUESTS=500
	@$(ALL) -m hubel retrain --store=$(call q,STORE) $(call flag,PROMOTE,promote) $(TRIAL) $(if $(value RUN),--out=$(call q,RUN)) \
	  $(value ARGS) -- $(call q,NAME) $(call q,DATA) $(feedback)

resume: data-exists .venv/.synced  ## resume only the training in RUN=runs/NAME
	@$(ALL) -m hubel train --out=$(run) --resume $(value ARGS) -- $(call q,DATA)

evaluate: data-exists .venv/.synced  ## measure RUN on DATA
	@$(ALL) -m hubel evaluate $(value ARGS) -- $(run) $(call q,DATA)

export: data-exists .venv/.synced  ## write RUN as ONNX and compare it on DATA; ARGS=--no-fp16 without a graph for GPUs
	@$(ALL) -m hubel export $(value ARGS) -- $(run) $(call q,DATA)

report: data-exists .venv/.synced  ## write RUN/report.html: how good RUN is on DATA, where it fails, what it sees
	@$(ALL) -m hubel report $(value ARGS) -- $(run) $(call q,DATA)

publish: .venv/.synced  ## put RUN into the store as the next version of NAME, with its weights as train does
	@$(ALL) -m hubel publish --name=$(name) --store=$(call q,STORE) --with-weights $(value ARGS) -- $(run)

models: .venv-serve/.synced-$(SERVE_EXTRA)  ## list the store
	@$(SERVE) -m hubel models list --store=$(call q,STORE) $(value ARGS)

promote: .venv-serve/.synced-$(SERVE_EXTRA)  ## make MODEL=name:version live, if the gate lets it pass; SHADOW=1 or CANARY=10 for a trial first; FORCE=1, REASON="why"
	@$(SERVE) -m hubel models promote --store=$(call q,STORE) $(GATE) $(call flag,SHADOW,shadow) $(TRIAL) $(call option,REASON,reason) \
	  $(value ARGS) -- $(call q,MODEL)

rollback: .venv-serve/.synced-$(SERVE_EXTRA)  ## make the version of NAME before live again; REASON="why"
	@$(SERVE) -m hubel models rollback --store=$(call q,STORE) $(call option,REASON,reason) $(value ARGS) -- $(call q,NAME)

up:  ## build and start the service and Prometheus in Docker, and wait until they are healthy; SERVICE=hubel-gpu for a GPU, SERVICE=nginx for REPLICAS=3 of it
	@DOCKER_BUILDKIT=1 $(PROFILED) up -d --build $(call q,SERVICE) prometheus
	@for _ in $$(seq 120); do sleep 1; state=$$($(PROFILED) ps $(call q,SERVICE) prometheus); \
	  [ $$(echo "$$state" | grep -c '(healthy)') -lt 2 ] || exit 0; echo "$$state" | grep -q Restarting && break; done; \
	  $(PROFILED) logs --tail=5 $(call q,SERVICE) prometheus; echo "$$state"; exit 1

down:  ## stop and remove them; what Prometheus recorded stays
	@$(COMPOSE) --profile monitoring --profile gpu --profile scale down

clean:  ## remove what was installed, and decoded images (not the runs in runs/, not the store)
	rm -rf .venv .venv-serve .venv-bench .venv-audit .audit .bench .tools .pytest_cache .ruff_cache runs/.decoded runs/*/.decoded

.PHONY: data-exists
data-exists:  # before anything is installed for it; what has a colon is no folder: mnist:, hf:NAME
	@case $(call q,DATA) in *:*) ;; *) test -e $(call q,DATA) || { printf 'error: DATA=%s does not exist; %s\n' $(call q,DATA) \
	  'give the folder that holds a folder of images for each class' >&2; exit 1; };; esac

.venv/.synced: pyproject.toml uv.lock | $(UV)
	@echo "$(if $(wildcard .venv/.synced),bringing .venv up to date,installing torch and what training and tests need into .venv (about 6 GB, once))" >&2
	@$(UV) sync -q --locked --extra train --extra serve-cpu --extra signing --extra tracing --group fuzz
	@touch $@

.venv-serve/.synced-$(SERVE_EXTRA): pyproject.toml uv.lock | $(UV)
	@echo "$(if $(wildcard .venv-serve/.synced-*),bringing .venv-serve up to date,installing what a service and inspect need into .venv-serve ($(SERVE_SIZE), once))" >&2
	@UV_PROJECT_ENVIRONMENT=.venv-serve $(UV) sync -q --locked --no-dev --extra $(SERVE_EXTRA) --extra inspect --extra tracing --extra imagenet 2>/dev/null || \
	  UV_PROJECT_ENVIRONMENT=.venv-serve $(UV) sync -q --locked --no-dev --extra $(SERVE_EXTRA) --extra inspect --extra tracing  # serve says what is missing
	@rm -f .venv-serve/.synced-*; touch $@

.venv-audit/.synced: pyproject.toml uv.lock | $(UV)
	@UV_PROJECT_ENVIRONMENT=.venv-audit $(UV) sync -q --locked --only-group audit
	@touch $@

$(CURDIR)/.tools/bin/uv:
	@$(PYTHON) -m pip install -q --target .tools uv==$(UV_VERSION) 2>/dev/null || \
	  { $(PYTHON) -m venv .tools && .tools/bin/python -m pip install -q uv==$(UV_VERSION); }
