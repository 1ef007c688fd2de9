VERSION ?= 0.1.0-dev
LDFLAGS  = -s -w -X main.version=$(VERSION)

.PHONY: help build test race lint fuzz sim

help: ## say what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-6s %s\n", $$1, $$2}' Makefile

build: ## the static binary, ./legion-cron
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o legion-cron ./cmd/legion-cron

test: ## vet, staticcheck, gofmt and all tests, with the race detector
	scripts/test.sh

race: ## all tests five times over, shuffled, with the race detector
	go test -race -shuffle=on -count=5 -timeout 60m ./...

lint: ## vet, staticcheck and the house rules, without the other tests
	go vet ./...
	go tool staticcheck ./...
	go test .

fuzz: ## every fuzz target, FUZZTIME each (10s)
	scripts/fuzz.sh

sim: ## the simulator; SEED=n replays one run
	go test -count=1 ./cmd/internal/sim/... $(if $(SEED),-args -seed $(SEED))
