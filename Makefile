# Accumulus: metering for fleets of Kubernetes clusters.
#
#   make demo   the whole product on this machine, nothing else to install
#   make test   every test

SHELL := /bin/bash
GO ?= go
BIN := bin
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
PACKAGES := ./...
FUZZTIME ?= 10s
BENCHTIME ?= 1s
BENCH ?= .

.DEFAULT_GOAL := help
.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z][a-zA-Z0-9_-]*:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: toolchain
toolchain:
	@command -v $(GO) >/dev/null || { echo "Go is missing: install Go 1.26 or newer from https://go.dev/dl"; exit 1; }
	@command -v cc >/dev/null || $(MAKE) --no-print-directory compiler

.PHONY: compiler
compiler:
	@echo "A C compiler is missing (SQLite needs one); installing gcc"
	@if command -v apt-get >/dev/null; then \
		sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
		$$sudo apt-get update -qq && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends gcc libc6-dev; \
	elif command -v dnf >/dev/null; then sudo dnf install -y gcc glibc-devel; \
	elif command -v apk >/dev/null; then sudo apk add gcc musl-dev; \
	else echo "Install a C compiler (cc) and run make again"; exit 1; fi

.PHONY: build
build: toolchain ## Build bin/accumulus and bin/accumulus-follower
	@mkdir -p $(BIN)
	CGO_ENABLED=1 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/accumulus ./cmd/accumulus-follower

.PHONY: demo
demo: build ## Run a leader and three followers on this machine
	$(BIN)/accumulus demo $(DEMOFLAGS)

.PHONY: test
test: toolchain ## Run all tests
	CGO_ENABLED=1 $(GO) test -timeout 60m $(PACKAGES)

.PHONY: bench
bench: toolchain ## Run the benchmarks (docs/benchmarks.md says how to read them)
	@CGO_ENABLED=1 $(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -benchtime $(BENCHTIME) \
		$$(grep -rl --include='*_test.go' '^func Benchmark' . | xargs -n1 dirname | sort -u)

.PHONY: bench-sync
bench-sync: toolchain build/influxd-1.8.10 ## Copy with influxsync against InfluxDB's client; SYNCBENCHFLAGS='-rows 200000 -runs 1 -long 0' is a quick run
	@CGO_ENABLED=1 $(GO) build -o build/bench-sync ./internal/bench/sync
	@build/bench-sync $(SYNCBENCHFLAGS)

.PHONY: fuzz
fuzz: toolchain ## Run every fuzz target for FUZZTIME (default 10s)
	@set -e; for dir in $$(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u); do \
		for target in $$($(GO) test -list '^Fuzz' $$dir | grep '^Fuzz'); do \
			echo "$$dir $$target"; $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$dir; \
		done; \
	done

.PHONY: lint
lint: toolchain ## Formatting, vet, import directions, wall-clock calls
	@unformatted=$$(git ls-files '*.go' | xargs gofmt -l); \
		[ -z "$$unformatted" ] || { echo "gofmt -w $$unformatted"; exit 1; }
	CGO_ENABLED=1 $(GO) vet $(PACKAGES)
	$(GO) test ./internal/lint

.PHONY: verify
verify: lint test ## What CI runs; leaves git diff empty
	@git diff --exit-code --stat

.PHONY: clean
clean: ## Remove what was built
	rm -rf $(BIN)
