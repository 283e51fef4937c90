# Every target sets the machine up first, when something is missing: tests/setup says what it does.

SHELL := /bin/bash
export PATH := $(HOME)/.cargo/bin:$(HOME)/go/bin:$(PATH)
# Queries are checked against the committed controller/.sqlx; `make lint` compares that with a real Postgres.
export SQLX_OFFLINE := true

binaries := -p paas-cli -p paas-controller -p paas-builder -p paas-router

.PHONY: help setup demo demo-kubernetes test test-kubernetes fuzz up build lint bench soak soak-kubernetes
.DEFAULT_GOAL := help

help: ## Print these lines
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## Install what is missing on this machine, start Docker
	@tests/setup

demo: ## Start the platform and show a git push going live (DEMO_EXIT=1: end after it)
	@tests/demo

demo-kubernetes: ## The same on a Kubernetes cluster, with the Helm chart (KUBECONFIG=…, or a local one where it can be had)
	@tests/kubernetes/demo

test: ## Run every test
	@tests/setup test
	cargo test --locked --workspace --no-run
	tests/with-postgres cargo test --locked --workspace --no-fail-fast

test-kubernetes: ## Run the whole-product scenarios with the processes on a cluster (PAAS_TEST_KUBECONFIG=…)
	@tests/setup test
	cargo test --locked --workspace --no-run
	PAAS_TEST_SCHEDULER=kubernetes cargo test --locked --workspace --test e2e

fuzz: ## Ask the API all that its description allows, and more (FUZZ_SECONDS=75, FUZZ_SEED=…)
	@tests/setup test
	cargo test --locked --workspace --no-run
	tests/fuzz/run

up: setup build ## Start the platform on this machine: paas up (arguments in UP=)
	target/release/paas up $(UP)

build: ## Build the release binaries into target/release
	cargo build --release --locked $(binaries)

lint: ## Check format, clippy, and the queries against a real Postgres
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	tests/sqlx-check

bench: ## Measure against OpenSSH, nginx and bare containers
	@tests/setup bench
	cargo build --release --locked $(binaries)
	cargo run --release --locked -p paas-tests --bin bench

soak: setup build ## Run the long test of no failed request
	cargo test --release --locked -p paas-tests -- --ignored --nocapture soak

soak-kubernetes: setup ## The same with the processes on a cluster (PAAS_TEST_KUBECONFIG=…)
	cargo build --release --locked --workspace --bins
	PAAS_TEST_SCHEDULER=kubernetes cargo test --release --locked -p paas-tests --test e2e -- --ignored --nocapture soak
