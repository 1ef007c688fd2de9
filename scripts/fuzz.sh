#!/usr/bin/env bash
# Fuzz every target of every package, one after the other, FUZZTIME each.
# Arguments name packages. Inputs that are found stay in testdata, and go in.
set -euo pipefail
cd "$(dirname "$0")/.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT
for pkg in $(go list "${@:-./...}"); do
	for target in $(go test -list '^Fuzz' "$pkg" | grep '^Fuzz' || true); do
		echo "$pkg $target"
		if go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-60s}" "$pkg" >"$log" 2>&1; then
			tail -n 1 "$log"
		elif grep -q 'context deadline exceeded' "$log" && ! grep -q 'Failing input' "$log"; then
			# The fuzzer itself may trip over the end of its time (go.dev/issue/48591).
			echo "time is up"
		else
			cat "$log"
			exit 1
		fi
	done
done
