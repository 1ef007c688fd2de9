#!/usr/bin/env bash
# Everything that must hold before a commit: vet, staticcheck, and all tests,
# with the race detector where there is a C compiler. Arguments go to go test.
# With CI=true, a skipped test or a missing race detector is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."

race=() report=()
if [ "${CI:-}" = true ]; then
	race=(-race) report=(-noskip)
elif command -v "${CC:-gcc}" >/dev/null; then
	race=(-race)
else
	echo "no C compiler: testing without the race detector" >&2
fi

echo "go vet"
go vet ./...
echo "staticcheck"
go tool staticcheck ./...
echo "go test ${race[*]} -shuffle=on"
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
go build -o "$bin/testreport" ./scripts/testreport
# The simulator has one goroutine, so the race detector finds nothing in it and
# makes it eight times as slow: it is tested without.
sim=$(go list ./cmd/internal/sim)
tests() {
	if [ $# -gt 0 ]; then
		go test -json "${race[@]}" -shuffle=on -timeout 20m "$@"
		return
	fi
	CGO_ENABLED=0 go test -json -shuffle=on -timeout 20m "$sim" &&
		go test -json "${race[@]}" -shuffle=on -timeout 20m $(go list ./... | grep -vx "$sim")
}
export CGO_ENABLED=$(( ${#race[@]} > 0 ))
tests "$@" | "$bin/testreport" "${report[@]}"
