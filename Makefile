# What a person needs: `make lab`, `make test`. `make help` lists the rest.
SHELL := /bin/bash
CARGO ?= cargo
ENVOY_VERSION := 1.40.0
ENVOY_CACHE := $(CURDIR)/.cache/envoy/envoy
BINARIES := atoll atoll-dp global-cp zone-cp

.PHONY: help build envoy postgres nftables schemathesis schemathesis-installed fmt clippy test lab lab-check lab-programs conformance fuzz bench faults

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

build: ## build the programs into bin/
	$(CARGO) build --locked --workspace --bins
	@mkdir -p bin && for b in $(BINARIES); do ln -sf ../target/debug/$$b bin/$$b; done

envoy: ## fetch Envoy into the project's cache, unless ENVOY or PATH has one
	@ENVOY_VERSION=$(ENVOY_VERSION) ENVOY_CACHE=$(ENVOY_CACHE) deploy/fetch-envoy.sh

postgres: ## see to it that Postgres' binaries are there
	@deploy/need-postgres.sh

nftables: ## see to it that nft and ip are there
	@deploy/need-nftables.sh

schemathesis-installed: ## install schemathesis into the project's cache
	@tests/schemathesis/install.sh

fmt: ## check the format
	$(CARGO) fmt --all --check

clippy: ## lints, warnings are errors
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

test: fmt envoy postgres nftables schemathesis-installed clippy ## all that must hold before a change lands
	$(CARGO) build --locked --workspace --bins
	ENVOY="$$(deploy/fetch-envoy.sh --where)" $(CARGO) test --locked --workspace
	tests/schemathesis/run.sh

schemathesis: build ## hold a live global and zone to their OpenAPI documents
	@tests/schemathesis/run.sh

# Envoy is fetched while the programs are built; what either prints is seen, and either may fail.
lab-programs:
	@ENVOY_VERSION=$(ENVOY_VERSION) ENVOY_CACHE=$(ENVOY_CACHE) deploy/fetch-envoy.sh & fetch=$$!; \
	$(MAKE) --no-print-directory build || { wait $$fetch; exit 1; }; wait $$fetch

lab: lab-programs ## two clouds on this machine, with real Envoys; prints what to try
	@exec bin/atoll lab up

lab-check: lab-programs postgres ## the lab by itself: asserts every step, prints a table
	@bin/atoll lab check $(ARGS)

# Kuma's cases; any folder laid out like it.
CONFORMANCE_DIR ?=
conformance: ## judge Kuma's documents, requests and answers: make conformance CONFORMANCE_DIR=FOLDER
	@CONFORMANCE_DIR="$(if $(CONFORMANCE_DIR),$(abspath $(CONFORMANCE_DIR)))" $(CARGO) test --locked --quiet -p atoll-conformance --test conformance

FUZZ ?= document_json
fuzz: ## fuzz one target for a minute; needs cargo-fuzz: make fuzz FUZZ=document_yaml
	cd fuzz && RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run $(FUZZ) -- -max_total_time=60 -timeout=10 -rss_limit_mb=2048

W ?= w1
bench: envoy postgres ## measure a workload: make bench W=w1
	$(CARGO) build --locked --release --workspace --bins
	target/release/bench --envoy "$$(deploy/fetch-envoy.sh --where)" $(W)

faults: postgres ## kill instances of global and Postgres under writes; compare a ledger with what is there
	$(CARGO) build --locked --release -p atoll-bench -p atoll-global-cp
	target/release/bench faults $(ARGS)
