# The few ways to build, try and measure Hearth. Everything sets itself up.
SHELL := /bin/bash
.DEFAULT_GOAL := help
export HEARTH_CACHE ?= $(HOME)/.cache/hearth
ARGS ?=
NAME ?=

help:
	@printf '%s\n' 'make demo    build and run everything on this machine (ARGS="--homes 100")' \
	  'make test    every check and test, including those on the real stack' \
	  'make check   formatting, lints, dependency arrows, licences, advisories' \
	  'make stack   Kafka, Cassandra, registry and Mosquitto in the foreground' \
	  'make load    1,000 homes against the real stack; report in target/load' \
	  'make bench   measurements; results in target/bench (NAME=prefix for a part)' \
	  'make release static binary, chart, list of contents and checksums, into target/release-VERSION'

# A separate profile: quick to build, without features that only a cluster needs (TLS to Kafka and Cassandra).
demo: setup-demo
	@echo '==> building hearth (the first time takes minutes)'
	@bash deploy/build.sh --profile demo -p hearth --bin hearth --no-default-features
	@target=$$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/'); \
	  exec "$$target/demo/hearth" demo $(ARGS)

# Tests on the real stack are #[ignore]d, so that a plain `cargo test` counts them as ignored. Here all of them run.
test: setup-test check
	@echo '==> tests'
	cargo build --workspace --all-targets
	@set -euo pipefail; \
	stack=$$(cargo test -q --workspace -- --list --ignored | grep -c ': test$$'); \
	cargo test --workspace -- --include-ignored | awk -v stack="$$stack" '\
	  { print; fflush() } \
	  /^test result:/ { skipped += $$8 } \
	  END { printf "%d stack tests run, %d skipped\n", stack - skipped, skipped }'

check: setup-test
	@echo '==> formatting, lints, arrows, dependencies'
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo test --workspace --test tidy
	$(HEARTH_CACHE)/bin/cargo-machete
	$(HEARTH_CACHE)/bin/cargo-deny check licenses bans sources
	@bash deploy/advisories.sh

stack: setup-test
	cargo run --release --bin hearth-stack

load: setup-test
	cargo build --release --workspace --bins
	cargo run --release --bin stack-load -- $(ARGS)

bench: setup-test
	cargo build --release --workspace --bins
	cargo run --release --bin bench -- $(NAME) $(ARGS)

release: setup-release
	@bash deploy/release.sh

setup-release:
	@bash deploy/setup.sh release

setup-demo:
	@bash deploy/setup.sh demo

setup-test:
	@bash deploy/setup.sh test

.PHONY: help demo test check stack load bench release setup-demo setup-test setup-release
