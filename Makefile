# `make help` lists what there is. Needs Debian 12 (or like it), root and Rust; the rest is installed.
.DEFAULT_GOAL := help
.PHONY: help up down test sim proof fuzz bench check schemas library

help: ## Show this
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile

up: ## Start everything on this machine, quickstart included; run again at any time
	@scripts/up.sh

down: ## Stop the control plane; workspaces stay (ALL=1: stop the engine as well)
	@ALL=$(ALL) scripts/down.sh

# What scripts/test-tools.sh installed comes first; dockerd and iptables live in sbin.
test: export PATH := $(CURDIR)/target/tools/bin:$(PATH):/usr/sbin:/sbin
test: ## Install what the tests need, and run them all, optimised; `cargo test NAME` builds one faster
	scripts/test-tools.sh
	scripts/test.sh

a_day = {"workload":"day","seed":$(SEED)}
sim: ## Play a simulation again: PLAN='…' as a failure printed it, or SEED=n for a day by chance
	PLAN='$(if $(PLAN),$(PLAN),$(a_day))' cargo test --locked --profile gate --test it -- sim::again --exact --ignored --nocapture

proof: export PATH := $(CURDIR)/target/tools/bin:$(PATH):/usr/sbin:/sbin
proof: ## Play every fault there is, for hours, and write docs/PROOF.md; PARTS='days real' plays some
	scripts/proof.sh $(PARTS)

fuzz: ## Run the fuzz targets, SECONDS_EACH=60
	SECONDS_EACH=$(SECONDS_EACH) scripts/fuzz.sh

bench: ## Measure, and print a table
	benches/run.sh

check: ## Format, lint, audit: what a change must pass besides the tests
	cargo fmt --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny check; else echo "cargo-deny is missing: advisories and licences are not checked (cargo install cargo-deny)"; fi
	@if command -v shellcheck >/dev/null; then shellcheck -x -e SC2016 scripts/*.sh images/base/*.sh benches/*.sh docs/media/*.sh .ci/run; fi

schemas: ## Write schemas/ anew from the kinds
	cargo run --locked -- schema --out schemas

library: ## Write the library's index anew from its files
	cargo run --locked -- library index manifests/library >manifests/library/index.yaml.new
	mv manifests/library/index.yaml.new manifests/library/index.yaml
