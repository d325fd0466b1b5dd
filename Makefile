# What people and CI run. `make` alone lists it. GNU make 3.81 or newer; recipes are plain sh.

CARGO ?= cargo
# The tests mostly wait for states of other processes, so more of them run at once than there are cores.
TEST_THREADS ?= 6
CRD := crds/koniglespaces.cloud.konigle.com.yaml
CHART := charts/konigle-operator

# The model runs the decisions millions of times, so this package, and it alone, is optimised for it: at level 1 it would
# use what the others compiled without any, three times slower. That numbers overflow is still noticed.
MODEL_PROFILE := profile.dev.package.konigle-operator
MODEL_TEST := CARGO_INCREMENTAL=0 $(CARGO) test --all-features --test model \
	--config $(MODEL_PROFILE).opt-level=2 --config $(MODEL_PROFILE).debug-assertions=false

# Tools that cargo builds are kept outside target/, so that `cargo clean` and a fresh clone need no minutes for them.
CACHE := $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/konigle-operator
DENY_VERSION := 0.20.2
DENY := $(CACHE)/cargo-deny/$(DENY_VERSION)/bin/cargo-deny
ZIZMOR_VERSION := 1.32.0
ZIZMOR := $(CACHE)/zizmor/$(ZIZMOR_VERSION)/bin/zizmor
FUZZ_VERSION := 0.13.2
FUZZ := $(CACHE)/cargo-fuzz/$(FUZZ_VERSION)/bin/cargo-fuzz
# What `make fuzz` runs, and for how many seconds each.
TARGET ?= answers archive log packing retry_after urls
SECONDS ?= 60

.DEFAULT_GOAL := help
# The stages of `test` and `lint` stand in the order in which they should fail.
.NOTPARALLEL:
.PHONY: help demo test tests sweep faults soak e2e e2e-helm e2e-flux e2e-argocd e2e-image model fuzz bench image build plugin plugin-archive controlplane parts lint tools generate check-generated

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: controlplane ## from a fresh checkout to a promoted release; KEEP=1 leaves it running
	$(CARGO) build --features sim,plugin --bins --example demo
	KEEP=$(KEEP) $(CARGO) run --quiet --features sim,plugin --example demo

# In the order in which they should fail. STAGES names a file for the time that each takes. The sweep and the fault matrix
# mostly wait, so they run side by side; the sweep's output follows that of the matrix. What is started with & does not
# hear Ctrl-C by itself.
test: controlplane ## all tests, the ones on a real API server included
	@.ci/timed lint $(MAKE) lint
	@.ci/timed generated $(MAKE) check-generated
	@.ci/timed tests $(MAKE) tests
	@.ci/timed model $(MAKE) model MODEL=short
	@trap 'kill 0' INT TERM; log=$$(mktemp); .ci/timed sweep $(MAKE) sweep >$$log 2>&1 & sweep=$$!; \
	faults=0; .ci/timed faults $(MAKE) faults FAULTS_TABLE=compare || faults=$$?; \
	wait $$sweep; sweep=$$?; cat $$log; rm -f $$log; exit $$((sweep + faults))
	@.ci/timed soak $(MAKE) soak MINUTES=3

tests: controlplane ## the tests without those that take minutes: model, sweep, faults, soak
	RUST_TEST_THREADS=$(TEST_THREADS) $(CARGO) test --all-features

# A case by itself: make sweep ONLY='deploy/submit.half:1'.
sweep: controlplane ## kill the operator at every point of its calls; ONLY=substring, PAIRS=number or all, SEED=text
	PAIRS='$(PAIRS)' SEED='$(SEED)' $(CARGO) test --all-features --test sweep -- $(if $(ONLY),'$(ONLY)')

faults: controlplane ## the fault matrix, and its table docs/faults.md; ONLY=12 one row by number or name, SEEDS=20 more
	ONLY=$(ONLY) SEEDS=$(or $(SEEDS),3) FAULTS_TABLE=$(or $(FAULTS_TABLE),write) $(CARGO) test --all-features --test faults

fuzz: ## libFuzzer on what reads bytes from elsewhere: TARGET=answers|archive|log|packing|retry_after|urls, SECONDS=60 for each
	@rustup toolchain list 2>/dev/null | grep -q ^nightly || { echo 'libFuzzer needs a nightly compiler, which is missing: rustup toolchain install nightly --profile minimal'; exit 1; }
	@command -v c++ >/dev/null || { echo 'libFuzzer needs a C++ compiler, which is missing: apt-get install g++'; exit 1; }
	@$(MAKE) --no-print-directory $(FUZZ)
	@for target in $(TARGET); do \
		echo "=== $$target: $(SECONDS) s"; \
		mkdir -p target/fuzz/corpus/$$target; \
		$(FUZZ_RUN) $$target target/fuzz/corpus/$$target tests/fuzz/corpus/$$target -- $(FUZZ_LIMITS) || exit 1; \
	done

# The code is safe Rust, so a sanitizer would only slow it down. What is found is kept below target/; what is worth it is
# put into tests/fuzz/corpus by hand, under a name.
FUZZ_RUN := PATH="$(dir $(FUZZ)):$$PATH" cargo +nightly fuzz run --fuzz-dir tests/fuzz --sanitizer none --target-dir target/fuzz
FUZZ_LIMITS = -max_total_time=$(SECONDS) -timeout=10 -rss_limit_mb=1024 -malloc_limit_mb=128 -max_len=65536 -print_final_stats=1 \
	-artifact_prefix=target/fuzz/found-

$(FUZZ):
	$(CARGO) install cargo-fuzz --locked --debug --version $(FUZZ_VERSION) --root $(CACHE)/cargo-fuzz/$(FUZZ_VERSION)

soak: controlplane ## 200 resources under a fault a second: MINUTES=30, SEED=1 for the same faults again
	MINUTES=$(or $(MINUTES),30) SEED=$(SEED) $(CARGO) test --all-features --test soak

# The operator among the real programs that people use it with. One flow by itself: make e2e-helm FLOW=helm::one_namespace.
e2e: e2e-helm e2e-flux e2e-argocd e2e-image ## all of the following

e2e-helm: controlplane ## the chart in a real cluster: install, upgrade, take over, remove, and that its rights are just those it uses
	$(E2E)

e2e-flux: controlplane ## Flux's kustomize-controller applies the examples, and waits for what they ask for
	$(E2E)

e2e-argocd: controlplane ## Argo CD syncs the examples from a Git server, and reads their health; needs redis-server and git
	$(E2E)

e2e-image: controlplane image ## the image: what is in it, and that it runs
	$(E2E)

E2E = $(CARGO) test --all-features --test e2e -- $(or $(FLOW),$(@:e2e-%=%))

model: ## the functions that ship, against everything that may happen: MODEL=large or short, ONLY=setting or mutant, SEED=1
	MODEL=$(or $(MODEL),large) MODEL_SEED=$(SEED) $(MODEL_TEST) -- $(if $(ONLY),'$(ONLY)')

bench: controlplane ## the benchmarks, side by side with what they are compared to; ONLY='upload packing' some, MIB=64 a smaller artifact
	MIB=$(MIB) TREE_MIB=$(TREE_MIB) $(CARGO) bench --features sim --profile fast --bench operator -- $(ONLY)

image: ## an OCI image archive of the operator below target/image, without a container engine
	deploy/image/build

build: ## the operator, optimised, which takes many minutes
	$(CARGO) build --release --bin konigle-operator

plugin: ## kubectl konigle, optimised, which takes many minutes; a debug build: cargo build --features plugin --bin kubectl-konigle
	$(CARGO) build --release --features plugin --bin kubectl-konigle

plugin-archive: ## the plugin as a release has it and krew installs it, below target/plugin
	deploy/plugin/build

controlplane: ## etcd, kube-apiserver and kubectl, built unless they are there; prints their folder
	@tests/controlplane/build

parts: ## the real programs of the tests beside the control plane, built unless they are there; prints their paths
	@tests/parts/build $$(tests/parts/build)

lint: tools ## rustfmt, clippy, cargo-deny, the lock file of make fuzz, actionlint and zizmor
	$(CARGO) fmt --check
	$(CARGO) clippy --all-features --all-targets -- --deny warnings
	$(CARGO) clippy --all-features --test sweep --test faults --test soak --test e2e --test model -- --deny warnings
	$(CARGO) metadata --locked --format-version 1 --manifest-path tests/fuzz/Cargo.toml >/dev/null
	$(DENY) --all-features check --hide-inclusion-graph bans licenses sources
	$$(tests/parts/build actionlint) .github/workflows/*.yaml
	$(ZIZMOR) --offline --quiet .github/workflows

tools: $(DENY) $(ZIZMOR) ## the tools that lint needs, built unless they are there

# Not optimised: built in half the time, and it only reads a lock file.
$(DENY):
	$(CARGO) install cargo-deny --locked --debug --version $(DENY_VERSION) --root $(CACHE)/cargo-deny/$(DENY_VERSION)

$(ZIZMOR):
	python3 -m venv --clear $(CACHE)/zizmor/$(ZIZMOR_VERSION)
	$(CACHE)/zizmor/$(ZIZMOR_VERSION)/bin/pip install --quiet --disable-pip-version-check zizmor==$(ZIZMOR_VERSION)

# What is made from the code: into target/generated/, under the paths that it has here.
GENERATED := $(CRD) $(CHART)/templates/crd.yaml $(CHART)/README.md deploy/default/operator.yaml deploy/roles/clusterroles.yaml

define make_generated
	@for file in $(GENERATED); do mkdir -p "target/generated/$$(dirname "$$file")"; done
	$(CARGO) run --quiet --bin konigle-operator -- crd > target/generated/$(CRD)
	@charts/generate target/generated
endef

generate: ## write the files that are made from the code
	$(make_generated)
	@for file in $(GENERATED); do mv "target/generated/$$file" "$$file" || exit 1; done
	GENERATE=1 $(CARGO) test --quiet --all-features --lib status::properties

check-generated: ## fail when `make generate` would change a file
	$(make_generated)
	@for file in $(GENERATED); do \
		diff -u "$$file" "target/generated/$$file" || { echo "$$file is not what it is made from says: run \`make generate\`"; exit 1; }; \
	done
