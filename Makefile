# What people and CI run. `make` alone lists it. GNU make 3.81 or newer; recipes are plain sh.

CARGO ?= cargo
# The tests mostly wait for states of other processes, so more of them run at once than there are cores.
TEST_THREADS ?= 6
CRD := crds/koniglespaces.cloud.konigle.com.yaml

# Tools that cargo builds are kept outside target/, so that `cargo clean` and a fresh clone need no minutes for them.
CACHE := $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/konigle-operator
DENY_VERSION := 0.20.2
DENY := $(CACHE)/cargo-deny/$(DENY_VERSION)/bin/cargo-deny

.DEFAULT_GOAL := help
# The stages of `test` and `lint` stand in the order in which they should fail.
.NOTPARALLEL:
.PHONY: help demo test bench build controlplane lint tools generate check-generated

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: controlplane ## from a fresh checkout to a promoted release; KEEP=1 leaves it running
	$(CARGO) build --all-features --bins --example demo
	KEEP=$(KEEP) $(CARGO) run --quiet --all-features --example demo

test: controlplane lint check-generated ## all tests, the ones on a real API server included
	RUST_TEST_THREADS=$(TEST_THREADS) $(CARGO) test --all-features

bench: controlplane ## the benchmarks, side by side with what they are compared to
	$(CARGO) bench --all-features --profile fast --bench operator

build: ## the operator, optimised
	$(CARGO) build --release --bin konigle-operator

controlplane: ## etcd, kube-apiserver and kubectl, built unless they are there; prints their folder
	@tests/controlplane/build

lint: tools ## rustfmt, clippy, cargo-deny
	$(CARGO) fmt --check
	$(CARGO) clippy --all-features --all-targets -- --deny warnings
	$(DENY) --all-features check --hide-inclusion-graph bans licenses sources

tools: $(DENY) ## the tools that lint needs, built unless they are there

# Not optimised: built in half the time, and it only reads a lock file.
$(DENY):
	$(CARGO) install cargo-deny --locked --debug --version $(DENY_VERSION) --root $(CACHE)/cargo-deny/$(DENY_VERSION)

generate: ## write the files that are made from the code
	@mkdir -p $(dir $(CRD)) target/generated
	$(CARGO) run --quiet --bin konigle-operator -- crd > target/generated/crd.yaml
	@mv target/generated/crd.yaml $(CRD)

check-generated: ## fail when `make generate` would change a file
	@mkdir -p target/generated
	$(CARGO) run --quiet --bin konigle-operator -- crd > target/generated/crd.yaml
	@diff -u $(CRD) target/generated/crd.yaml || { echo '$(CRD) is not what the code says: run `make generate`'; exit 1; }
