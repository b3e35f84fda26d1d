# Where docker-build puts the image, and where deploy and build-installer take it from.
IMG ?= controller:latest
CONTAINER_TOOL ?= docker
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
# The user's own kubectl, else the one that make controlplane builds.
KUBECTL ?= $(or $(shell command -v kubectl 2>/dev/null),bin/k8s/kubectl)
# More flags for run, such as ARGS=--interval=10s.
ARGS ?=
# More flags for go test, such as TESTFLAGS='-run Hold -v'. The race detector needs a C compiler, and twelve minutes on two cores
# once all is built; the programs that tests run are watched too:
# make test CGO_ENABLED=1 TESTFLAGS=-race
TESTFLAGS ?=

# How long each fuzzer runs, or how often, such as 1000x.
FUZZTIME ?= 10s

# Nothing here needs C.
export CGO_ENABLED ?= 0

SHELL = /usr/bin/env bash -o pipefail
.SHELLFLAGS = -ec

.DEFAULT_GOAL := help

##@ General

.PHONY: help
help: ## Show this.
	@awk 'BEGIN {FS = ":.*##"; printf "\nUsage:\n  make \033[36m<target>\033[0m\n"} /^[a-zA-Z_0-9-]+:.*?##/ { printf "  \033[36m%-16s\033[0m %s\n", $$1, $$2 } /^##@/ { printf "\n\033[1m%s\033[0m\n", substr($$0, 5) }' $(MAKEFILE_LIST)

.PHONY: demo
demo: controlplane ## Watch the whole loop on real parts, in under a minute once built. KEEP=1 leaves it running.
	@go build -o bin/ ./cmd/operator ./cmd/kubectl-operator ./hack/demo
	@exec bin/demo

##@ Development

.PHONY: manifests
manifests: ## Generate the CRDs and the monitor's role from the comments in api and controllers.
	@go tool controller-gen rbac:roleName=operator-monitor crd paths=./api/... paths=./controllers/... \
		output:crd:dir=config/crd/bases output:rbac:dir=config/rbac

.PHONY: generate
generate: ## Generate the DeepCopy methods of the API types.
	@go tool controller-gen object paths=./api/...

.PHONY: fmt
fmt: ## Format the code.
	go fmt ./...

.PHONY: vet
vet: ## Run go vet.
	go vet ./...

.PHONY: lint
lint: bin/golangci-lint ## Run golangci-lint. The first time it is built, which takes minutes.
	bin/golangci-lint run

.PHONY: test
test: controlplane $(if $(PROMETHEUS),,bin/prometheus) manifests generate fmt vet ## Run all tests, against a real API server and Prometheus. TESTFLAGS has more flags.
	@# Not from the test cache: it does not know of the CRDs and the programs that tests install and build.
	@# Four of a package's tests at once, also on two cores: they wait for the API server most of the time.
	go test -count=1 -parallel 4 $(TESTFLAGS) ./...

.PHONY: fuzz
fuzz: ## Run each fuzzer for FUZZTIME, one after the other. What breaks one stays in its testdata.
	@for package in $$(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u); do \
		for fuzzer in $$(go test -list '^Fuzz' $$package | grep '^Fuzz'); do \
			echo "$$package $$fuzzer"; \
			go test -run '^$$' -fuzz "^$$fuzzer\$$" -fuzztime $(FUZZTIME) $(TESTFLAGS) $$package; \
		done; \
	done

# How long the parts of make chaos run that end by the clock; SEED repeats the choices of an earlier run, RUN picks scenarios, and guards.
CHAOSTIME ?= 1h
# How much more than in make test may happen in the model of a cycle's writes.
DEPTH ?= 1
SEED ?= 0
RUN ?= .

.PHONY: chaos
chaos: controlplane $(if $(PROMETHEUS),,bin/prometheus) ## Kill, stop, cut off, flood and confuse the monitor for hours, and check all that it wrote. SEED repeats a run.
	go test -count=1 -v -timeout=12h -run '$(RUN)' ./test/chaos -args -long -for=$(CHAOSTIME) -seed=$(SEED)

.PHONY: model
model: controlplane ## Try all orders of a cycle's reads and writes, with more in each than make test has, which takes long.
	go test -count=1 -v -timeout=12h -run TestModel ./controllers -args -model.depth=$(DEPTH)

.PHONY: guards
guards: controlplane ## Remove the guards that keep the rules, one by one, and want a test to turn red for each. RUN picks some.
	go run ./hack/guards -run '$(RUN)'

.PHONY: bench
bench: controlplane ## Run the benchmarks.
	go test -run '^$$' -bench . -benchmem $(TESTFLAGS) ./...

.PHONY: compat
compat: ## Fail if the CRDs are not backward compatible with those of the last release. FROM=REF compares with others.
	@go run ./hack/compat $(if $(FROM),-from $(FROM))

.PHONY: verify
verify: ## Fail if generated files or go.mod files are not up to date, or compat fails. What was generated anew stays.
	@before=$$($(generated) | xargs cksum); \
	$(MAKE) --no-print-directory manifests generate; \
	if [ "$$before" != "$$($(generated) | xargs cksum)" ]; then \
		echo "make verify: generated files were not up to date. They are now; commit them:" >&2; \
		git status --short -- $(GENERATED) >&2; \
		exit 1; \
	fi
	@for dir in . hack/binaries hack/prometheus hack/tools; do \
		go -C $$dir mod tidy -diff || { echo "make verify: $$dir/go.mod is not up to date: run go mod tidy in $$dir" >&2; exit 1; }; \
	done
	@# Once the CRDs are those of the types.
	@$(MAKE) --no-print-directory compat

GENERATED = api/v1alpha1/zz_generated.deepcopy.go config/crd/bases config/rbac/role.yaml
generated = find $(GENERATED) -type f | sort

##@ Build

.PHONY: build
build: manifests generate ## Build bin/operator and bin/kubectl-operator.
	go build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/ ./cmd/operator ./cmd/kubectl-operator
	@ln -sf kubectl-operator bin/kubectl_complete-operator

.PHONY: run
run: build ## Run the monitor here, against the cluster of your kubeconfig. ARGS has more flags.
	@exec bin/operator monitor $(ARGS)

.PHONY: docker-build
docker-build: ## Build the image IMG.
	$(CONTAINER_TOOL) build --build-arg VERSION=$(VERSION) -t $(IMG) .

.PHONY: build-installer
build-installer: manifests generate $(filter bin/k8s/kubectl,$(KUBECTL)) ## Write dist/install.yaml: all that a cluster needs, with the image IMG.
	@mkdir -p dist
	$(rendered) >dist/install.yaml

.PHONY: clean
clean: ## Remove what was built, the control plane too.
	rm -rf bin dist cover.out

##@ Deployment, to the cluster of your kubeconfig

.PHONY: install
install: manifests $(filter bin/k8s/kubectl,$(KUBECTL)) ## Install the CRDs.
	$(KUBECTL) apply --server-side -k config/crd

.PHONY: uninstall
uninstall: $(filter bin/k8s/kubectl,$(KUBECTL)) ## Remove the CRDs, and with them all Invariants and Tickets.
	$(KUBECTL) delete --ignore-not-found -k config/crd

.PHONY: deploy
deploy: manifests $(filter bin/k8s/kubectl,$(KUBECTL)) ## Install the CRDs and the monitor, with the image IMG.
	$(rendered) | $(KUBECTL) apply --server-side -f -

.PHONY: undeploy
undeploy: $(filter bin/k8s/kubectl,$(KUBECTL)) ## Remove the monitor and the CRDs, and with them all Invariants and Tickets.
	$(KUBECTL) delete --ignore-not-found -k config/default

rendered = $(KUBECTL) kustomize config/default | sed 's|image: controller:latest|image: $(IMG)|'

##@ Programs that the rest uses

# Whoever has assets of their own lacks only the program that nobody else builds.
.PHONY: controlplane
ifdef KUBEBUILDER_ASSETS
controlplane: $(if $(wildcard $(KUBEBUILDER_ASSETS)/controllers),,bin/k8s/controllers)
else
controlplane: bin/k8s/etcd bin/k8s/kube-apiserver bin/k8s/kubectl bin/k8s/controllers
endif
controlplane: ## Build a Kubernetes control plane into bin/k8s: minutes the first time. KUBEBUILDER_ASSETS has others.

bin/k8s/etcd: package = go.etcd.io/etcd/server/v3
bin/k8s/kube-apiserver: package = k8s.io/kubernetes/cmd/kube-apiserver
bin/k8s/kubectl: package = k8s.io/kubernetes/cmd/kubectl
bin/k8s/controllers: package = ./controllers
bin/k8s/controllers: hack/binaries/controllers/main.go
bin/k8s/etcd bin/k8s/kube-apiserver bin/k8s/kubectl bin/k8s/controllers: hack/binaries/go.mod hack/binaries/go.sum hack/binaries/build.sh hack/build.sh
	@mkdir -p $(@D)
	@hack/binaries/build.sh $(package) $(CURDIR)/$@
	@touch $@ # go build leaves an output alone that would be the same

# For the tests; PROMETHEUS has another. Without the discovery of targets from clouds and clusters, a third of its
# packages: tests name theirs.
bin/prometheus: hack/prometheus/go.mod hack/prometheus/go.sum hack/build.sh
	@mkdir -p $(@D)
	@hack/build.sh hack/prometheus github.com/prometheus/prometheus/cmd/prometheus $(CURDIR)/$@ -tags remove_all_sd
	@touch $@

bin/golangci-lint: hack/tools/go.mod hack/tools/go.sum
	@echo "golangci-lint is built once, which takes minutes" >&2
	@go -C hack/tools build -trimpath -ldflags '-s -w' -o $(CURDIR)/$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@
