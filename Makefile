# The few ways to build, try and measure Hearth. Everything sets itself up.
SHELL := /bin/bash
.DEFAULT_GOAL := help
export HEARTH_CACHE ?= $(HOME)/.cache/hearth
ARGS ?=
NAME ?=

help:
	@printf '%s\n' 'make demo    build and run everything on this machine (ARGS="--homes 100")' \
	  'make test    every check and test, the real stack among them' \
	  'make check   formatting, lints, licences, dependency arrows' \
	  'make stack   Kafka, Cassandra, registry and Mosquitto in the foreground' \
	  'make load    1,000 homes against the real stack; report in target/load' \
	  'make bench   measurements; results in target/bench (NAME=prefix for a part)' \
	  'make release the release binary'

demo: setup-demo
	@echo '==> building (the first time takes minutes)'
	cargo build --release --workspace --bins
	@target=$$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/'); \
	  exec "$$target/release/hearth" demo $(ARGS)

test: setup-test check
	@echo '==> tests'
	cargo build --workspace --all-targets
	STACK=1 cargo test --workspace

check: setup-test
	@echo '==> formatting, lints, licences, arrows'
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo test --workspace --test tidy

stack: setup-test
	cargo run --release --bin hearth-stack

load: setup-test
	cargo build --release --workspace --bins
	cargo run --release --bin stack-load -- $(ARGS)

bench: setup-test
	cargo build --release --workspace --bins
	cargo run --release --bin bench -- $(NAME) $(ARGS)

release: setup-demo
	cargo build --release --workspace --bins

setup-demo:
	@bash deploy/setup.sh demo

setup-test:
	@bash deploy/setup.sh test

.PHONY: help demo test check stack load bench release setup-demo setup-test
