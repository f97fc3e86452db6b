# Accumulus: metering for fleets of Kubernetes clusters.
#
#   make demo   the whole product on this machine, nothing else to install
#   make test   every test

SHELL := /bin/bash
GO ?= go
BIN := bin
ifndef VERSION
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
endif
LDFLAGS := -s -w -X main.version=$(VERSION)
PACKAGES := ./...
FUZZTIME ?= 10s
BENCHTIME ?= 1s
BENCH ?= .
SEED ?= 1
N ?= 500

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

# Images without Docker: static programs, and a command that lays them into OCI
# archives. The same commit gives the same bytes.
IMAGE_REPOSITORY ?= ghcr.io/accumulus-metering
IMAGE_ARCHS ?= amd64 arm64
IMAGE_TAG ?= $(patsubst v%,%,$(subst +,-,$(VERSION)))
IMAGES := build/images
STATIC := -tags 'sqlite_omit_load_extension netgo osusergo timetzdata' -ldflags '$(LDFLAGS) -linkmode external -extldflags "-static -Wl,--build-id=none"'
CROSS_amd64 := x86_64-linux-gnu-gcc
CROSS_arm64 := aarch64-linux-gnu-gcc
compiler-of = $(if $(filter $1,$(shell $(GO) env GOHOSTARCH)),cc,$(CROSS_$1))

.PHONY: images
images: $(IMAGE_ARCHS:%=image-programs-%) ## OCI archives of leader, follower and stress program for amd64 and arm64, in build/images
	@CGO_ENABLED=1 $(GO) run ./internal/images -repository '$(IMAGE_REPOSITORY)' -version '$(IMAGE_TAG)' \
		-revision "$$(git rev-parse HEAD 2>/dev/null)" -epoch "$$(git log -1 --format=%ct 2>/dev/null || echo 0)" \
		-arch "$$(echo $(IMAGE_ARCHS) | tr ' ' ,)" -bin $(IMAGES)/bin -out $(IMAGES) accumulus accumulus-follower accumulus-stress

.PHONY: $(IMAGE_ARCHS:%=image-programs-%)
$(IMAGE_ARCHS:%=image-programs-%): image-programs-%: toolchain
	@command -v $(call compiler-of,$*) >/dev/null || $(MAKE) --no-print-directory cross-$*
	@mkdir -p $(IMAGES)/bin/$*
	CGO_ENABLED=1 GOOS=linux GOARCH=$* CC=$(call compiler-of,$*) $(GO) build -trimpath $(STATIC) -o $(IMAGES)/bin/$*/ ./cmd/accumulus ./cmd/accumulus-follower ./cmd/accumulus-stress

# The same program under the name by which kubectl finds it; deploy/krew/accumulus.yaml
# names the archives.
.PHONY: plugin
plugin: $(IMAGE_ARCHS:%=image-programs-%) ## Archives of the kubectl plugin for amd64 and arm64, in build/plugin
	@mkdir -p build/plugin
	@for arch in $(IMAGE_ARCHS); do \
		cp $(IMAGES)/bin/$$arch/accumulus build/plugin/kubectl-accumulus && \
		tar -czf build/plugin/kubectl-accumulus-linux-$$arch.tar.gz -C build/plugin kubectl-accumulus -C $(CURDIR) LICENSE || exit 1; \
	done; rm -f build/plugin/kubectl-accumulus

# A compiler for the other architecture, from the distribution.
.PHONY: cross-amd64 cross-arm64
cross-amd64 cross-arm64: cross-%:
	@package=gcc-aarch64-linux-gnu libc=libc6-dev-arm64-cross; \
	[ $* = arm64 ] || { package=gcc-x86-64-linux-gnu libc=libc6-dev-amd64-cross; }; \
	command -v apt-get >/dev/null || { echo "$(call compiler-of,$*) is missing: install it, or run make images IMAGE_ARCHS=$$($(GO) env GOARCH)"; exit 1; }; \
	sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	$$sudo apt-get update -qq && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$package $$libc

# The servers of influxsync's tests, made only where one is missing. Nothing of
# them is installed or started on this machine.
INFLUXD_MODULE := influxsync/influxtest/influxd
APT_GET := apt-get -qq $(if $(filter 0,$(shell id -u)),-o APT::Sandbox::User=root)

.PHONY: servers
servers: build/influxd-1.8.10 build/versitygw ## Put the InfluxDB and S3 servers of the tests into build/
	@[ -x build/influxd-1.6 ] || $(MAKE) --no-print-directory influxd-package

build/influxd-1.8.10: | toolchain
	@mkdir -p build
	cd $(INFLUXD_MODULE) && CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=1.8.10' \
		-o $(CURDIR)/$@.new github.com/influxdata/influxdb/cmd/influxd
	@mv $@.new $@

# A server that speaks S3, for the tests of leader/bucket.
build/versitygw: | toolchain
	@mkdir -p build
	cd leader/bucket/versitygw && CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' \
		-o $(CURDIR)/$@.new github.com/versity/versitygw/cmd/versitygw
	@mv $@.new $@

# The distribution's package, unpacked. Where there is none, the tests skip it.
.PHONY: influxd-package
influxd-package:
	@candidate() { apt-cache madison influxdb | awk '$$3 ~ /^1\.6\./ {print $$3; exit}'; }; \
	if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then \
		echo "InfluxDB 1.6 is not fetched: this machine has no apt and dpkg"; exit 0; \
	fi; \
	if [ -z "$$(candidate)" ]; then \
		sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
		$$sudo apt-get update -qq || true; \
	fi; \
	version=$$(candidate); \
	if [ -z "$$version" ]; then \
		echo "InfluxDB 1.6 is not fetched: this distribution has no such package"; exit 0; \
	fi; \
	rm -rf build/influxd-package && mkdir -p build/influxd-package && cd build/influxd-package && \
	if ! { $(APT_GET) download "influxdb=$$version" && dpkg-deb -x influxdb_*.deb . && mv usr/bin/influxd ../influxd-1.6; }; then \
		echo "InfluxDB 1.6 is not fetched: run make servers again when the package can be downloaded"; exit 0; \
	fi; \
	cd .. && rm -rf influxd-package && echo "build/influxd-1.6 is InfluxDB $$version of this distribution"

# etcd and Kubernetes for the tests, as one binary from a nested module.
KUBE_VERSION := 1.37.2

.PHONY: kube-binaries
kube-binaries: toolchain ## Build etcd and Kubernetes of the tests into build/ (once)
	@GO='$(GO)' internal/kubetest/hyper/build.sh $(KUBE_VERSION) build/kube-$(KUBE_VERSION)

# What real nodes run of the distribution. Nothing is started by installing it.
KUBE_PACKAGES := containerd runc containernetworking-plugins nftables iproute2 util-linux

.PHONY: kube-packages
kube-packages:
	@missing() { \
		for program in containerd ctr runc nft ip nsenter; do command -v $$program || [ -x /usr/sbin/$$program ] || echo "no $$program" >&2; done >/dev/null; \
		for dir in /usr/lib/cni /opt/cni/bin /usr/libexec/cni; do [ ! -x $$dir/bridge ] || return 0; done; echo "no CNI plugins" >&2; \
	}; \
	[ "$$(uname)" = Linux ] || exit 0; \
	[ -n "$$(missing 2>&1)" ] || exit 0; \
	if ! command -v apt-get >/dev/null; then \
		echo "Nodes of test clusters lack:"; missing 2>&1; echo "Install $(KUBE_PACKAGES) (or what your distribution calls them): this machine has no apt"; exit 0; \
	fi; \
	if [ "$$(id -u)" != 0 ]; then \
		echo "Nodes of test clusters need root, and lack:"; missing 2>&1; echo "As root, make kube-packages installs $(KUBE_PACKAGES)"; exit 0; \
	fi; \
	echo "Installing $(KUBE_PACKAGES) for the nodes of test clusters"; \
	$(APT_GET) update && DEBIAN_FRONTEND=noninteractive $(APT_GET) install -y --no-install-recommends $(KUBE_PACKAGES) >/dev/null || \
		echo "Not all of it could be installed: make e2e says what is missing"

# The browser of the status page's test, from the distribution: about 100 MB.
.PHONY: browser
browser:
	@for program in chromium chromium-browser google-chrome; do ! command -v $$program >/dev/null || exit 0; done; \
	if ! command -v apt-get >/dev/null || [ "$$(id -u)" != 0 ]; then \
		echo "No Chromium: the test of the status page is skipped (as root on a machine with apt, make browser installs it)"; exit 0; \
	fi; \
	echo "Installing chromium for the test of the status page"; \
	$(APT_GET) update && DEBIAN_FRONTEND=noninteractive $(APT_GET) install -y --no-install-recommends chromium >/dev/null || \
		echo "Chromium could not be installed: the test of the status page says so"

E2E := build/e2e
E2EFLAGS ?=
E2E_ARCH = $(shell $(GO) env GOARCH)

# All that the lab and its tests run, since nothing is built inside it: the
# product's images, and those of the tests' own programs.
.PHONY: e2e-programs
e2e-programs: toolchain kube-binaries kube-packages
	@mkdir -p $(E2E)/bin
	@CGO_ENABLED=1 $(GO) build -o $(E2E)/bin/ ./internal/kubetest/cluster
	@CGO_ENABLED=1 $(GO) test -c -o $(E2E)/bin/kube.test ./internal/e2e/kube
	@if [ "$$(uname)" = Linux ]; then \
		set -e; \
		CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o $(E2E)/bin/ ./internal/kubetest/pause ./internal/kubetest/workload ./cmd/accumulus-stress; \
		$(MAKE) --no-print-directory image-programs-$(E2E_ARCH); \
		$(E2E)/bin/cluster images $(E2E)/bin $(E2E)/images; \
		CGO_ENABLED=1 $(GO) run ./internal/images -repository kubetest.local -version e2e -arch $(E2E_ARCH) -bin $(IMAGES)/bin -out $(E2E)/images accumulus accumulus-follower >/dev/null; \
		rm -f $(E2E)/images/*-e2e-$(E2E_ARCH).tar; \
	fi

.PHONY: e2e-up
e2e-up: e2e-programs ## Leave two Kubernetes clusters running, each with a real node (root)
	@$(E2E)/bin/cluster up -images $(E2E)/images

.PHONY: e2e
e2e: e2e-programs ## Run the tests on real nodes, in the lab that is up or in one of its own (root)
	@cd internal/e2e/kube && $(CURDIR)/$(E2E)/bin/cluster run -images $(CURDIR)/$(E2E)/images -- \
		$(CURDIR)/$(E2E)/bin/kube.test -test.timeout $(if $(ACCUMULUS_EXPERIMENTS),0,45m) -test.parallel 2 $(E2EFLAGS)

.PHONY: e2e-down
e2e-down: ## End the clusters of e2e-up
	@[ ! -x $(E2E)/bin/cluster ] || $(E2E)/bin/cluster down

.PHONY: test
test: toolchain servers kube-binaries kube-packages browser ## Run all tests, those on real nodes last
	CGO_ENABLED=1 $(GO) test -timeout 60m $(PACKAGES)
	@$(MAKE) --no-print-directory e2e

.PHONY: chaos
chaos: toolchain ## Run N random schedules of the sync from SEED on; TELL=1 tells all of each
	CGO_ENABLED=1 $(GO) test -count 1 -timeout 0 -v -run '^TestSchedules$$' ./internal/chaos -args -chaos.seed=$(SEED) -chaos.n=$(N) $(if $(TELL),-chaos.tell)

.PHONY: bench
bench: toolchain ## Run the benchmarks (docs/benchmarks.md says how to read them)
	@CGO_ENABLED=1 $(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -benchtime $(BENCHTIME) \
		$$(grep -rl --include='*_test.go' '^func Benchmark' . | xargs -n1 dirname | sort -u)

# Not a part of the tests: they take long, and machines are noisy.
.PHONY: experiments
experiments: e2e-programs ## What metering costs: Jobs with and without it on a real node, followers of many sizes (root)
	@ACCUMULUS_EXPERIMENTS=1 CGO_ENABLED=1 $(GO) test -run '^$$' -bench Scale -benchtime 3x -timeout 0 ./internal/bench
	@ACCUMULUS_EXPERIMENTS=1 $(MAKE) --no-print-directory e2e E2EFLAGS='-test.run "TestOverhead|TestCalibrate" -test.v'

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
	rm -rf $(BIN) build
