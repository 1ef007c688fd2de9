#!/usr/bin/env bash
# Fuzz every target of every package, one after the other, FUZZTIME each.
set -euo pipefail
cd "$(dirname "$0")/.."

for pkg in $(go list ./...); do
	for target in $(go test -list '^Fuzz' "$pkg" | grep '^Fuzz' || true); do
		echo "$pkg $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-10s}" "$pkg"
	done
done
