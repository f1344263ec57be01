# What a person or CI asks of hopwise. `make` alone lists it.

SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help demo test test-metrics test-qemu coverage bpf bench book lint fmt fmt-check deny prerequisites

CARGO ?= cargo
# The version of mdBook that the book is built with.
MDBOOK_VERSION := 0.5.4

help: ## Lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

prerequisites:
	@.ci/prerequisites.sh

demo: prerequisites ## Installs what is missing, builds, and traces the captured ping of the reference cluster
	@.ci/demo.sh

test: prerequisites ## Runs all tests (without privileges the interpreter answers instead of the kernel)
	@.ci/privileged.sh || [ -n "$$HOPWISE_REQUIRE" ] || { \
		echo 'note: this process may not run BPF programs. Tests of the kernel backend skip, and questions of other'; \
		echo '      tests are answered by the interpreter. HOPWISE_REQUIRE=kernel turns that into a failure.'; }
	$(CARGO) test --locked --workspace --doc
	$(CARGO) test --locked --workspace --lib --bins --tests

test-metrics: prerequisites ## Scrapes the metrics with a real Prometheus server of Debian's packages
	@CARGO='$(CARGO)' .ci/metrics.sh

test-qemu: prerequisites ## Runs the programs on real VXLAN and Geneve devices of another kernel, in an emulated machine
	@.ci/qemu.sh

coverage: prerequisites ## Runs all tests and prints what of the datapath's programs and of the Rust code they reach
	@CARGO='$(CARGO)' .ci/coverage.sh

bpf: ## Builds the datapath's object and its digest anew
	.ci/bpf.sh build

bench: prerequisites ## Measures the datapath, in ratios taken in one run
	$(CARGO) bench --locked --package tests

book: ## Builds the book into book/book
	@command -v mdbook >/dev/null || { \
		echo 'error: mdbook is not on the PATH' >&2; \
		echo 'help: cargo install mdbook --version $(MDBOOK_VERSION) --locked' >&2; exit 4; }
	mdbook build book

lint: prerequisites ## Runs clippy, warnings denied
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

fmt: ## Formats the Rust sources
	$(CARGO) fmt --all
	$(CARGO) fmt --manifest-path datapath/ebpf/Cargo.toml

fmt-check: ## Checks the formatting
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path datapath/ebpf/Cargo.toml --check

deny: ## Checks licences, bans and sources of the dependencies
	$(CARGO) deny check licenses bans sources
