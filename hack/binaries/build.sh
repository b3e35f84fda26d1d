#!/usr/bin/env bash
# Builds one program of the local control plane from this module's pinned versions, and counts the packages
# compiled while it does, since the first build takes minutes.
#   build.sh PACKAGE OUTPUT
set -euo pipefail
package=$1 output=$2
cd "$(dirname "$0")"
export CGO_ENABLED=0

version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
# kubectl refuses to read its own version without this.
stamp="-X k8s.io/component-base/version.gitVersion=$version -X k8s.io/client-go/pkg/version.gitVersion=$version"
total=$(go list -deps "$package" | wc -l)
name=$(basename "$output")

status=$(mktemp)
trap 'rm -f "$status"' EXIT
{ go build -v -trimpath -ldflags "-s -w $stamp" -o "$output" "$package" 2>&1; echo $? >"$status"; } |
	awk -v name="$name" -v total="$total" -v tty="$([ -t 2 ] && echo 1 || echo 0)" '
		/^[A-Za-z0-9._\/~-]+$/ { n++
			if (tty) printf "\r%-16s %4d of at most %d packages compiled", name, n, total > "/dev/stderr"
			else if (n % 200 == 0) printf "%-16s %4d of at most %d packages compiled\n", name, n, total > "/dev/stderr"
			next }
		{ print > "/dev/stderr" }
		END { printf "%s%-16s built, %d packages compiled\n", tty ? "\r" : "", name, n, total > "/dev/stderr" }'
exit "$(cat "$status")"
