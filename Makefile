VERSION ?= 0.1.0-dev
LDFLAGS  = -s -w -X main.version=$(VERSION)

.PHONY: chaos help build test race lint fuzz sim spread mutations sweep model huge crashes bench-claims bench-runs compare-redis

help: ## say what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

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

fuzz: ## every fuzz target, FUZZTIME each (60s)
	scripts/fuzz.sh

chaos: ## three real agents under random faults for CHAOS (5m), and what became of every slot
	go test -count=1 -timeout 30m -v -run TestChaos ./cmd/internal/daemon -args -chaos $(or $(CHAOS),5m)

sim: ## the simulator with SEEDS (10000); SEED=n replays one run
	go test -count=1 -timeout 3h -run TestSeeds ./cmd/internal/sim -args $(if $(SEED),-seed $(SEED),-seeds $(or $(SEEDS),10000))

spread: ## up to 500 legions on up to 20 nodes spread, in virtual time, and rest for an hour
	go test -count=1 -timeout 1h -v -run TestSpread ./cmd/internal/sim -args -spread

mutations: ## break the protocol's rules one by one; the simulator must notice each
	go test -count=1 -timeout 3h -run TestMutations ./cmd/internal/sim -args -mutations

sweep: ## every schedule kind against the oracle, at every transition of every zone
	go test -count=1 -timeout 1h -run 'TestOracle$$' ./scheduler/cronspec -args -sweep

model: ## the models with spin, at the larger bounds too
	go test -count=1 -timeout 1h -v -run TestModels ./legion/model -args -full

bench-runs: ## 10, 100 and 1,000 jobs due at the same instant, beside os/exec (2 minutes)
	go test -count=1 -timeout 20m -v -run 'TestCrowd$$' ./jobs/runner -args -runner.crowd $(or $(ROUNDS),9)

compare-redis: ## lock scripts beside legion-cron, under five faults (6 minutes)
	LEGION_CRON_COMPARE=1 go test -count=1 -timeout 20m -v -run 'TestRedisComparison$$' ./cmd/internal/daemon

huge: ## the newest 50 runs of a job among RUNS (10000000): 10 ms at most; needs 8 GB in TMPDIR
	go test -count=1 -timeout 1h -v -run TestNewestOfMany ./jobs/ledger -args -ledger.huge $(or $(RUNS),10000000)

# Figures for docs/measurements.md, each run its own rows. ARGS says what of it:
# -events, -nodes, -profiles, -trials, -probe, -idle, -window, -soak.
MEASURE = go test -count=1 -timeout 6h -v ./cmd/internal/measure -run
ALL = -nodes 3,5 -profiles lan,fast
IDLE = -idle 3x1,3x10,3x100,3x1000,10x1,30x1,50x1

measure: ## how long a legion is without a lord (70 minutes); ARGS="-events kill -nodes 3,5 ..."
	$(MEASURE) 'TestSuccession$$' -args -measure $(or $(ARGS),-trials 20 $(ALL))

onelord: ## never two lords at once, whatever is done (40 minutes); ARGS as for measure
	$(MEASURE) 'TestOneLord$$' -args -measure $(or $(ARGS),-trials 3 $(ALL))

merge: ## how soon a partition of two minutes grows together
	$(MEASURE) 'TestMerge$$' -args -measure $(ARGS)

measure-idle: ## what a node costs when nothing happens (25 minutes)
	$(MEASURE) 'TestIdle$$' -args -measure $(or $(ARGS),-window 1m $(IDLE))

soak: ## twenty minutes of random faults
	$(MEASURE) 'TestSoak$$' -args -measure $(or $(ARGS),-soak 20m)

crashes: ## kill -9 an agent, and a writer of the ledger, 100 times each while they claim
	go test -count=1 -timeout 1h -v -run TestAgentKilledWhileItClaims ./cmd/internal/daemon -args -crashes 100
	go test -count=1 -timeout 1h -v -run 'TestKill$$' ./jobs/ledger -args -ledger.crashes 100

bench-claims: ## claims committed by three nodes, and successions over 1000000 old runs (10 minutes)
	go test -run '^$$' -bench 'Claims|TakeOver' -benchtime $(or $(N),50)x -timeout 1h ./cmd/internal/daemon
